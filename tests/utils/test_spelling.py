"""A message names what was probably meant, and of a long list the first names and their number."""

from genhub.utils.spelling import did_you_mean, shorten


def test_the_nearest_word_is_meant_whatever_its_case():
    assert did_you_mean("Genrator", ["discriminator", "generator", "Generator2"]) == " (did you mean 'generator'?)"
    assert did_you_mean("unet", ["generator"]) == did_you_mean("unet", []) == ""


def test_several_words_may_be_meant():
    known = ["gan", "gan-best", "gin", "vae"]

    assert did_you_mean("gan-bets", known, 3) == " (did you mean 'gan-best' or 'gan'?)"
    assert did_you_mean("gan", ["gan1", "gan2", "gan3", "gan4"], 3).count("'gan") == 3


def test_a_long_list_is_cut_and_what_is_left_out_is_counted():
    assert shorten("abcde") == "a, b, c, d, e"
    assert shorten("abcdef") == "a, b, c, d, e and 1 more"
    assert shorten(["x"] * 1006) == "x, x, x, x, x and 1,001 more"
