"""YAML 1.2, as recipes and command lines are read."""

import math

import pytest
import yaml

from genhub.recipes.yaml import read_yaml, write_yaml


@pytest.mark.parametrize(
    "word",
    [
        "no",
        "yes",
        "on",
        "off",
        "No",
        "YES",
        "y",
        "n",
        "1e",
        "e3",
        "1.2.3",
        "nan",
        "010",
        "0o10",
        "0x1f",
        "1_000",
        "1:30",
        "2001-01-01",
        "0b1",
    ],
)
def test_a_word_stays_a_word(word):
    assert read_yaml(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(("word", "value"), [("true", True), ("False", False), ("TRUE", True)])
def test_truth_values_are_true_and_false(word, value):
    assert read_yaml(f"a: {word}") == {"a": value}


@pytest.mark.parametrize("word", ["1e-3", "1.0e-3", "5E4", "-2e+1", ".5", "2.", "+1.5e3", "-0.0"])
def test_numbers_with_exponents_are_numbers(word):
    value = read_yaml(f"a: {word}")["a"]

    assert isinstance(value, float)
    assert value == float(word)


def test_what_is_neither_is_read_as_ever():
    assert read_yaml("{a: 3, b: ~, c: [x, '1'], d: .inf}") == {"a": 3, "b": None, "c": ["x", "1"], "d": math.inf}
    assert math.isnan(read_yaml(".nan"))
    with pytest.raises(yaml.YAMLError):
        read_yaml("{a: [")


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "true",
        "1.5",
        "1e-3",
        "1e3",
        "010",
        "1:30",
        "2001-01-01",
        "null",
        "",
        1e-3,
        1e22,
        2.0,
        True,
        None,
        {"a": ["no", 1]},
    ],
)
def test_what_is_dumped_is_read_back(value):
    assert read_yaml(write_yaml(value)) == yaml.safe_load(write_yaml(value)) == value
