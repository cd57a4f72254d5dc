"""A class and its arguments, as a recipe names them: checked before any work, called later."""

import inspect
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from genhub.recipes.arguments import check_arguments, parameters_of
from genhub.recipes.imports import import_class
from genhub.utils.modules import at_most
from genhub.utils.ranges import check_values, shown
from genhub.utils.reading import one_line
from genhub.utils.schedulers import check_timesteps, register_undeclared, undeclared_options

AUTO = "auto"
MOST_TENSORS, MOST_ELEMENTS = 10**5, 10**12  # of a network: none of a billion layers is built to the end
AUTOMATIC = ("num_class_embeds",)  # arguments that may be `auto`


class Spec:
    """A class, or a function, and the arguments that a recipe sets.

    A model of transformers, whose constructor takes a config object, has the parameters of its config class.

    Attributes:
        automatic: arguments that the recipe leaves to the data by the word `auto`.

    Args:
        section: where the recipe names it, for error messages.
        entry: `class`, a dotted path, and arguments by name.
        kinds: what the class must be a subclass of.
        given: parameters that are not the recipe's to set, as they are passed to `build`.
        trust_code: also import classes from outside the known packages (see `import_class`).

    Raises:
        ValueError: no such class, one of another kind, or an argument that it does not take.
    """

    def __init__(
        self,
        section: str,
        entry: object,
        kinds: tuple[type, ...],
        given: tuple[str, ...] = (),
        trust_code: bool = False,
    ):
        if not isinstance(entry, dict) or not isinstance(entry.get("class"), str):
            raise ValueError(f"`{section}` must name a `class` and its arguments, got {shown(entry)}.")
        self.section, self.path = section, entry["class"]
        self.cls = import_class(section, self.path, kinds, trust_code)
        self.config_class = _config_class(section, self.cls)
        self.parameters = parameters_of(self.config_class or self.cls)
        self.given = tuple(name for name in given if name in self.parameters)
        arguments = {name: value for name, value in entry.items() if name != "class"}
        self.automatic = {name for name in AUTOMATIC if arguments.get(name) == AUTO and name in self.parameters}
        for name in self.automatic:
            del arguments[name]
        undeclared = undeclared_options(self.cls) if inspect.isclass(self.cls) else ()
        self.undeclared = {name: arguments.pop(name) for name in undeclared if name in arguments}
        self.arguments = check_arguments(section, self.config_class or self.cls, arguments, skip=self.given)
        for name, value in self.arguments.items():
            check_values(f"{section}.{name}", value, exempt=self.parameters[name].default)

    def missing(self, filled: tuple[str, ...] = ()) -> list[str]:
        """Returns the required parameters that are neither set by the recipe, nor given, nor in `filled`."""
        known = {*self.arguments, *self.given, *filled}
        return [name for name, p in self.parameters.items() if p.default is p.empty and name not in known]

    def require(self, filled: tuple[str, ...] = ()) -> "Spec":
        """Returns itself, or raises ValueError if a required parameter is missing."""
        if missing := self.missing(filled):
            raise ValueError(f"`{self.section}` must set {', '.join(missing)}: {self.path} requires it.")
        return self

    def lacks(self, name: str) -> bool:
        """Whether the class has the parameter `name` and the recipe does not set it."""
        return name in self.parameters and name not in self.arguments

    def build(self, *positional, **given):
        """Calls the class with the recipe's arguments, and with those of `given` that it has parameters for.

        Raises:
            ValueError: the class refuses its arguments.
        """
        arguments = {name: value for name, value in given.items() if name in self.parameters} | self.arguments
        check_timesteps(self.section, arguments)
        try:
            with at_most(MOST_TENSORS, MOST_ELEMENTS):
                if self.config_class is not None:
                    return self.cls(self.config_class(**arguments))
                built = self.cls(*positional, **arguments)
            if self.undeclared:
                register_undeclared(built, self.undeclared)
            return built
        except (ValueError, StrictDataclassError) as error:
            raise ValueError(f"`{self.section}`: {one_line(error)}.") from error
        except Exception as error:  # a constructor meets values that it was not written for
            raise ValueError(f"`{self.section}` cannot be built: {one_line(error)}.") from error


def _config_class(section: str, cls: Any) -> type | None:
    """Returns the config class of a model of transformers, None for any other class."""
    if not hasattr(cls, "config_class"):
        return None
    hints = [str(hint) for hint in getattr(cls.config_class, "__annotations__", {}).values()]
    is_flat = not getattr(cls.config_class, "sub_configs", True)  # parts of their own can name code of the Hub
    is_flat = is_flat and not any("PreTrainedConfig" in hint for hint in hints)
    if not is_flat or ".timm_" in cls.__module__:  # timm fetches what the Hub has under the name of an architecture
        raise ValueError(f"`{section}.class` must be a model with one flat config, got {cls.__name__}.")
    return cls.config_class


def without(entry: object, *keys: str) -> object:
    """Returns an entry of a recipe without the keys that are not arguments of its class."""
    return {key: value for key, value in entry.items() if key not in keys} if isinstance(entry, dict) else entry
