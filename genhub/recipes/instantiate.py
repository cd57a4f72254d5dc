"""A class and its arguments, as a recipe names them: checked before any work, called later."""

import difflib
import importlib
import inspect
from types import FunctionType

from jsonargparse import ArgumentError, ArgumentParser


class Spec:
    """A class or function of a recipe, and its arguments: checked here, called later."""

    def __init__(self, section: str, entry: dict, kind: type | tuple[type, ...], given: tuple[str, ...] = ()):
        if not isinstance(entry, dict) or not isinstance(entry.get("class"), str):
            raise ValueError(f"`{section}` must name a `class` and its arguments, got {entry!r}.")
        self.section, self.path = section, entry["class"]
        self.cls = import_path(section, self.path)
        is_kind = (
            isinstance(self.cls, FunctionType) and f"{self.cls.__module__}.{self.cls.__name__}" == self.path
            if kind is FunctionType
            else inspect.isclass(self.cls) and issubclass(self.cls, kind)
        )
        if not is_kind:
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise ValueError(f"`{section}.class` must be a {names}, got {self.path}.")
        self.parameters = inspect.signature(self.cls).parameters
        arguments = {key: value for key, value in entry.items() if key != "class"}
        given = tuple(name for name in given if name in self.parameters)
        self.arguments = check_arguments(section, self.cls, arguments, given)
        self.given = given

    def missing(self, filled: tuple[str, ...] = ()) -> list[str]:
        """Returns the required parameters that neither the recipe nor anything of `filled` sets."""
        known = (*self.arguments, *filled)
        return [
            name
            for name, p in self.parameters.items()
            if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and name not in known
        ]

    def complete(self, filled: tuple[str, ...] = ()) -> "Spec":
        """Returns itself, or refuses a recipe that leaves out what is required."""
        if missing := self.missing((*filled, *self.given)):
            raise ValueError(f"`{self.section}` must set {', '.join(missing)}: {self.path} requires it.")
        return self

    def lacks(self, name: str) -> bool:
        """Whether the class takes `name` and the recipe leaves it open."""
        return name in self.parameters and name not in self.arguments

    def build(self, *positional, **given):
        """Calls the class with the recipe's arguments and those of `given` that it takes."""
        given = {name: value for name, value in given.items() if name in self.parameters}
        try:
            return self.cls(*positional, **{**given, **self.arguments})
        except (TypeError, NotImplementedError, AssertionError, ArithmeticError, RuntimeError) as error:
            raise ValueError(f"`{self.section}` cannot be built: {error}") from error
        except ValueError as error:
            raise ValueError(f"`{self.section}`: {error}") from error


def check_arguments(section: str, cls, arguments: dict, given: tuple[str, ...] = ()) -> dict:
    """Returns `arguments` in the types of the annotations of `cls`, or refuses what it does not take."""
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_function_arguments if inspect.isfunction(cls) else parser.add_class_arguments
    positional = [name for name in given if name in ("params", "optimizer")]
    add(cls, fail_untyped=False, sub_configs=False, skip={*given, *positional})
    known = [action.dest for action in parser._actions if action.dest != "help"]
    refuse_unknown(section, arguments, known)
    for key, value in arguments.items():
        parameter = inspect.signature(cls).parameters[key]
        if value is None and parameter.default is not None and "None" not in str(parameter.annotation):
            kind = getattr(parameter.annotation, "__name__", parameter.annotation)
            raise ValueError(f"`{section}.{key}` must be {kind}, got None.")
        try:
            arguments[key] = getattr(parser.parse_object({key: value}, _skip_required=True), key)
        except (ArgumentError, SystemExit) as error:
            kind = inspect.signature(cls).parameters[key].annotation
            kind = getattr(kind, "__name__", None) if inspect.isclass(kind) else str(kind)
            raise ValueError(f"`{section}.{key}` must be {kind}, got {value!r}.") from error
    return arguments


def as_mapping(section: str, entries: object) -> dict:
    if not isinstance(entries, dict):
        raise ValueError(f"`{section}` must be a mapping, got {entries!r}.")
    return entries


def refuse_unknown(section: str, keys, known):
    for key in keys:
        if key not in known:
            where = f"{section} {key!r}" if section == "section" else f"`{section}.{key}`"
            raise ValueError(f"There is no {where}{nearest(str(key), list(known))}. Known: {', '.join(known)}.")


def nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def import_path(section: str, path: str):
    """Returns what a dotted path names, or says which part of it does not exist and what is near."""
    parts = path.split(".")
    if len(parts) < 2:
        raise ValueError(f"`{section}.class` must be a dotted path such as torch.optim.AdamW, got {path!r}.")
    try:
        found = importlib.import_module(parts[0])
    except ImportError as error:
        raise ValueError(f"`{section}.class` is {path!r}, and there is no package {parts[0]!r}.") from error
    for depth, part in enumerate(parts[1:], start=1):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(".".join(parts[: depth + 1]))
            except ImportError:
                hint = nearest(part, dir(found))
                raise ValueError(
                    f"`{section}.class` is {path!r}, and {'.'.join(parts[:depth])} has no {part!r}{hint}."
                ) from None
    return found
