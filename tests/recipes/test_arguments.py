"""Arguments are checked against annotations: strictly, but for what YAML or a library cannot write otherwise."""

import math
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import pytest
import torch

from genhub.recipes.arguments import check_arguments


def checked(annotation, value, default=...):
    def function(argument):
        pass

    function.__annotations__["argument"] = annotation
    if default is not ...:
        function.__defaults__ = (default,)
    return check_arguments("part", function, {"argument": value})["argument"]


@pytest.mark.parametrize(
    ("annotation", "value", "result"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, math.inf, math.inf),
        (bool, True, True),
        (str, "3", "3"),
        (str | None, None, None),
        (int | float, 3, 3),
        (float | torch.Tensor, 3, 3.0),
        (np.ndarray | list[float] | None, [1, 2], [1.0, 2.0]),
        (Literal["a", "b"], "a", "a"),
        (list[int], [1, 2], [1, 2]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[float, float], [0, 0.5], (0.0, 0.5)),
        (int | tuple[int, int], [8, 16], (8, 16)),
        (tuple[int], [1, 2, 3], (1, 2, 3)),  # as diffusers writes it
        (tuple[tuple[str]], [["a", "b"], ["c"]], (("a", "b"), ("c",))),
        (typing.Tuple[int] | None, [1, 2], (1, 2)),  # noqa: UP006
        (Iterable[int], [1, 2], [1, 2]),
        (Sequence[int], [1, 2], [1, 2]),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (dict[int, str], {1: "a"}, {1: "a"}),
        (typing.Any, {"a": [1, None]}, {"a": [1, None]}),
    ],
)
def test_a_value_of_the_kind_that_is_annotated_is_taken_in_its_type(annotation, value, result):
    taken = checked(annotation, value)

    assert (taken, type(taken)) == (result, type(result))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "3"),
        (int, 3.0),
        (int, True),
        (int, None),
        (float, "0.5"),
        (float, True),
        (bool, 1),
        (bool, "true"),
        (str, 3),
        (str, None),
        (Literal["a", "b"], "c"),
        (list[int], 3),
        (list[int], ["a"]),
        (tuple[int, ...], [8, "a"]),
        (tuple[int], ["a", "b"]),
        (tuple[float, float], [0.5]),
        (dict[str, float], {"a": "b"}),
        (Callable, "os.system"),
        (Callable | None, "os.system"),
        (type[torch.nn.Module], "torch.nn.Linear"),
        (torch.Tensor, [1.0]),
        (torch.nn.Module, "torch.nn.Linear"),
        (torch.nn.Module, {"class": "torch.nn.Linear"}),
        (int, object()),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_annotation(annotation, value):
    with pytest.raises(ValueError, match="`part.argument` must be .*, got"):
        checked(annotation, value)


@pytest.mark.parametrize(("annotation", "default", "value"), [(int, None, None), (float, True, False)])
def test_a_value_of_the_kind_of_the_default_is_taken_whatever_is_annotated(annotation, default, value):
    assert checked(annotation, value, default) is value


def test_an_annotation_that_does_not_exist_refuses_nothing():
    assert checked("Nowhere", [1, "a"]) == [1, "a"]


def test_names_that_only_type_checkers_import_are_known():
    with pytest.raises(ValueError, match="must be"):
        checked("Iterable[int] | None", ["a"])


def test_an_argument_that_is_unknown_or_not_the_recipes_to_set_is_refused_and_the_nearest_named():
    def function(params, size: int = 1, *args, **kwargs):
        pass

    with pytest.raises(ValueError, match=r"no `part.sise` .did you mean 'size'.*. Known: params, size."):
        check_arguments("part", function, {"sise": 2})
    for name in ("params", "args", "kwargs"):
        with pytest.raises(ValueError, match=f"no `part.{name}`"):
            check_arguments("part", function, {name: 2}, skip=("params",))
