"""A tokenizer learnt from captions: it says them again, and is filled up, cut and saved as CLIP's."""

import os

import torch
from fresh import run
from transformers import CLIPTokenizer

from genhub.data.tokens import learn_merges, token_counts, tokenize, train_tokenizer

CAPTIONS = ["a dark ankle boot", "a picture of a bright t-shirt", "trouser, narrow, dark", "a t-shirt"] * 3
LENGTH = 10


def words(text: str) -> str:
    """A text without the spaces around its punctuation."""
    return text.replace(" ", "")


def test_tokens_say_the_captions_again_and_a_word_is_one_token():
    tokenizer = train_tokenizer(CAPTIONS, LENGTH)

    ids = tokenize(tokenizer, CAPTIONS)

    assert ids.shape == (12, LENGTH)
    assert ids.dtype == torch.int64
    again = tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert [*map(words, again)] == [*map(words, CAPTIONS)]
    assert (ids[0] != tokenizer.eos_token_id).sum() == 1 + 4


def test_words_of_no_caption_are_spelt_with_the_letters_of_ascii_and_of_the_captions():
    tokenizer = train_tokenizer([*CAPTIONS, "crème brûlée"], 32)
    texts = ["zebra 42 (iraq)?", "mère, été"]

    ids = tokenize(tokenizer, [*texts, "stra\u0436e"])

    assert [*map(words, tokenizer.batch_decode(ids[:2], skip_special_tokens=True))] == [*map(words, texts)]
    assert words(tokenizer.decode(ids[2], skip_special_tokens=True)) == "strae"


def test_texts_begin_end_and_are_filled_up_or_cut_as_a_text_encoder_is_told():
    tokenizer = train_tokenizer(CAPTIONS, LENGTH)

    ids, numbers = tokenize(tokenizer, ["", "dark " * 20]), token_counts(tokenizer)

    assert numbers["max_position_embeddings"] == LENGTH
    assert numbers["vocab_size"] == len(tokenizer) > ids.max()
    assert numbers["eos_token_id"] == numbers["pad_token_id"] != 2  # which transformers takes for an old mistake
    assert ids[0].tolist() == [numbers["bos_token_id"]] + [numbers["eos_token_id"]] * (LENGTH - 1)
    assert ids[1, -1] == numbers["eos_token_id"]
    assert ids[1, 1:-1].unique().numel() == 1


def test_it_is_the_same_when_loaded_by_transformers_alone(tmp_path):
    tokenizer = train_tokenizer(CAPTIONS, LENGTH)
    tokenizer.save_pretrained(tmp_path)

    again = CLIPTokenizer.from_pretrained(tmp_path)

    assert torch.equal(tokenize(again, CAPTIONS), tokenize(tokenizer, CAPTIONS))
    assert token_counts(again) == token_counts(tokenizer)


def test_the_most_frequent_pair_is_merged_first_and_of_equals_the_first_by_the_alphabet():
    # Sennrich et al. 2016, Algorithm 1: its own example, whose second and third pairs are as frequent as others
    words = {tuple("low") + ("</w>",): 5, tuple("lower") + ("</w>",): 2}
    words |= {tuple("newest") + ("</w>",): 6, tuple("widest") + ("</w>",): 3}

    merges = learn_merges(words, max_merges=10)

    joined = ["es", "est", "est</w>", "lo", "low", "ew", "ewest</w>", "newest</w>", "low</w>", "dest</w>"]
    assert [*map("".join, merges)] == joined


def test_tokens_are_the_same_in_every_process():
    code = "from genhub.data import train_tokenizer; "
    code += f"print(sorted(train_tokenizer({CAPTIONS}, 10).get_vocab().items()))"
    env = dict(os.environ)

    assert run(code, env | {"PYTHONHASHSEED": "1"}) == run(code, env | {"PYTHONHASHSEED": "2"})
