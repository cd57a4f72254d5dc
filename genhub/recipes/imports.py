"""Which classes a recipe may name: a recipe is data, and a stranger's recipe must not run code."""

import importlib
import inspect
from types import FunctionType
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from genhub.utils.extras import how_to_install
from genhub.utils.spelling import did_you_mean

NAMESPACES = (
    "genhub",
    "genhub.objectives",
    "diffusers",
    "transformers",
    "torch.nn",
    "torch.optim",
    "torch.optim.lr_scheduler",
)
SCHEDULES = "diffusers.optimization"  # its functions `get_*` return learning-rate schedules


def import_class(section: str, dotted: str, kinds: tuple[type, ...], trust_code: bool = False) -> Any:
    """Imports the class that a recipe names by its dotted path.

    It must be a public name of one of `NAMESPACES`, defined in the same package, and a subclass of one of `kinds`; for
    an `LRScheduler`, also a function `get_*` of `diffusers.optimization`. Nothing else is imported, not even to find
    out what it is.

    Args:
        section: part of the recipe that names the class, for error messages.
        trust_code: also import other modules, which runs their code. Must be False for a downloaded recipe.

    Raises:
        ValueError: the path names no such class.
    """
    namespace, _, name = dotted.rpartition(".")
    if not namespace or not all(part.isidentifier() for part in dotted.split(".")):
        raise ValueError(f"`{section}.class` must be a dotted path such as torch.optim.AdamW, got {dotted!r}.")
    is_listed = namespace in NAMESPACES or (namespace == SCHEDULES and LRScheduler in kinds)
    if not trust_code and (not is_listed or name.startswith("_")):
        raise ValueError(
            f"`{section}.class` must be a public class of {', '.join(NAMESPACES[:-1])} or {NAMESPACES[-1]}, got "
            f"{dotted}. Your own classes need `trust_code`, which a downloaded recipe never gets."
        )
    found = _import(section, namespace, name)
    if namespace == SCHEDULES:
        is_allowed = isinstance(found, FunctionType) and name.startswith("get_") and found.__module__ == namespace
    else:
        is_allowed = inspect.isclass(found) and issubclass(found, kinds)
        package = namespace.partition(".")[0]
        is_allowed = is_allowed and (trust_code or found.__module__.partition(".")[0] == package)
    if not is_allowed:
        raise ValueError(f"`{section}.class` must be a {' or '.join(k.__name__ for k in kinds)}, got {dotted}.")
    return found


def _import(section: str, namespace: str, name: str) -> Any:
    """Imports a module and returns one of its attributes."""
    try:
        module = importlib.import_module(namespace)
    except ImportError as error:
        how = f": {how_to_install('text')}" if namespace == "transformers" else ""
        raise ValueError(f"`{section}.class` is '{namespace}.{name}', and {error}{how}.") from error
    try:
        return getattr(module, name)
    except (AttributeError, ImportError, RuntimeError) as error:
        hint = did_you_mean(name, dir(module))
        raise ValueError(
            f"`{section}.class` is '{namespace}.{name}', and {namespace} has no {name!r}{hint}."
        ) from error
