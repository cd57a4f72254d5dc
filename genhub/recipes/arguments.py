"""Arguments of a recipe, checked against the annotations of what they are passed to."""

import collections.abc
import functools
import inspect
import json
import operator
import types
import typing
from collections.abc import Callable, Container

import torch
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from genhub.recipes.checks import refuse_unknown
from genhub.utils.ranges import shown

# Names that PyTorch and transformers import for type checkers only
TYPING_NAMES = vars(typing) | vars(collections.abc) | {"torch": torch}


def parameters_of(function: Callable) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a class or function that an argument can name."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind not in variadic}


def check_arguments(section: str, function: Callable, arguments: dict, skip: Container[str] = ()) -> dict:
    """Returns `arguments` in the types that a class or function declares: tuples for lists, floats for ints.

    Args:
        section: part of the recipe that holds the arguments, for error messages.
        skip: parameters that are not the recipe's to set.

    Raises:
        ValueError: an argument that `function` does not take, or of another type.
    """
    parameters = {name: p for name, p in parameters_of(function).items() if name not in skip}
    refuse_unknown(section, arguments, parameters)
    checked = {}
    for name, value in arguments.items():
        try:
            checked[name] = _adapter(function, name).validate_json(json.dumps(value), strict=True)
        except (ValidationError, TypeError) as error:
            kind = in_words(_hints(function).get(name, parameters[name].annotation))
            raise ValueError(f"`{section}.{name}` must be {kind}, got {shown(value)}.") from error
    return checked


WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    types.NoneType: "null",
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
}


def in_words(annotation: typing.Any) -> str:
    """Returns what an annotation means to someone who writes YAML."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(in_words, arguments)))
    if origin is typing.Literal:
        return " or ".join(map(str, arguments))
    if origin in (list, tuple, collections.abc.Iterable, collections.abc.Sequence) and arguments:
        inner = dict.fromkeys(in_words(argument) for argument in arguments if argument is not Ellipsis)
        return f"a list, each {' or '.join(inner)}"
    return WORDS.get(origin or annotation) or inspect.formatannotation(annotation)


@functools.cache
def _adapter(function: Callable, name: str) -> TypeAdapter:
    """Returns the validator of one argument, which also takes any value of the default's own type."""
    hint, default = _widened(_hints(function).get(name, typing.Any)), parameters_of(function)[name].default
    if default is None or isinstance(default, bool | int | float | str):
        hint = hint | type(default)
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        return adapter if adapter.pydantic_complete else TypeAdapter(typing.Any)
    except PydanticUserError:  # a type that pydantic does not know
        return TypeAdapter(typing.Any)


@functools.cache
def _hints(function: Callable) -> dict[str, typing.Any]:
    """Returns the evaluated annotations of a class's constructor or of a function; none where one does not exist."""
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function, None, TYPING_NAMES)
    except NameError:
        return {}


def _widened(annotation: typing.Any) -> typing.Any:
    """Reads `tuple[int]` as diffusers means it, as any number of ints, and an iterable as a list."""
    origin, arguments = typing.get_origin(annotation), tuple(map(_widened, typing.get_args(annotation)))
    if not arguments:
        return annotation
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, arguments)
    if origin is tuple and len(arguments) == 1:
        return tuple[arguments[0], ...]
    if origin in (tuple, list, dict):
        return types.GenericAlias(origin, arguments)
    return list[arguments] if origin is collections.abc.Iterable else annotation
