"""YAML 1.2, as recipes and command lines are read."""

import math

import pytest
import yaml

from genhub.recipes.yaml import read_yaml, write_yaml
from genhub.utils.reading import FileError


@pytest.mark.parametrize(
    "word", ["no", "yes", "on", "Off", "y", "1e", "e3", "1.2.3", "nan", "1_000", "1:30", "2001-01-01", "0b1"]
)
def test_what_only_version_1_1_reads_as_something_else_is_a_word(word):
    assert read_yaml(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(("word", "value"), [("true", True), ("False", False), ("TRUE", True)])
def test_truth_values_are_true_and_false(word, value):
    assert read_yaml(f"a: {word}") == {"a": value}


@pytest.mark.parametrize("word", ["1e-3", "1.0e-3", "5E4", "-2e+1", ".5", "2.", "+1.5e3", "-0.0"])
def test_numbers_with_exponents_are_numbers(word):
    value = read_yaml(f"a: {word}")["a"]

    assert isinstance(value, float)
    assert value == float(word)


def test_numbers_nulls_lists_and_quoted_words_are_read_as_in_either_version():
    assert read_yaml("{a: 3, b: ~, c: [x, '1'], d: .inf}") == {"a": 3, "b": None, "c": ["x", "1"], "d": math.inf}
    assert math.isnan(read_yaml(".nan"))


CODE = ["!!python/object/apply:sys.exit []", "%TAG ! tag:yaml.org,2002:python/\n---\n!name:os.system x", "!own {a: 1}"]
LAUGHS = "\n".join(["a0: &a0 ha", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))])


@pytest.mark.parametrize(
    "text",
    [
        *("{a: [", "a: 1\na: 2", "{[1]: 2}", "*a", "a: \0", "--- 1\n--- 2", "!!int a", "1" * 5000, "0x" + "f" * 99),
        *("&a [*a]", "&a {b: {c: *a}}", "&a {? *a : 1}", "[" * 10**5, "- " * 10**5, "? " * 10**5, "a: " + "b" * 2**20),
        *(*CODE, LAUGHS, f"[&a {'ha' * 10**5}, {'*a, ' * 10**5}]"),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_not_yaml_or_repeats_a_key_or_holds_itself_or_is_code_or_too_much_is_one_line(text):
    with pytest.raises(FileError, match=r"^the text cannot be read: .*[^.]$"):
        read_yaml(text)


def test_an_alias_is_a_copy():
    value = read_yaml("{a: &x {b: [1]}, c: *x}")

    value["a"]["b"].append(2)

    assert value == {"a": {"b": [1, 2]}, "c": {"b": [1]}}


WORDS = [
    "no",
    "true",
    "1.5",
    "1e-3",
    "1e3",
    "010",
    "0o10",
    "0x1f",
    "1_000",
    "1:30",
    "2001-01-01",
    "null",
    "",
    "=",
    "<<",
]


@pytest.mark.parametrize("value", [*WORDS, 1e-3, 1e-7, 1e22, 2.0, -math.inf, True, None, {"a": ["no", 1], "b": {}}])
def test_what_is_written_reads_alike_in_both_versions(value):
    assert read_yaml(write_yaml(value)) == yaml.safe_load(write_yaml(value)) == value


def test_a_value_that_stands_in_two_places_is_written_twice():
    shared = {"a": [1]}

    assert write_yaml({"x": shared, "y": shared}) == "x:\n  a: [1]\ny:\n  a: [1]\n"
