"""Options that diffusers' schedulers read from their config although their constructors do not list them."""

import inspect
from typing import Any

from diffusers import SchedulerMixin

UNDECLARED = ("sigma_min", "sigma_max")  # ends of the Karras, exponential and beta noise levels


def undeclared_options(cls: type) -> tuple[str, ...]:
    """Returns the options that a scheduler class reads from its config and does not declare."""
    parameters = inspect.signature(cls).parameters
    reads = issubclass(cls, SchedulerMixin) and "use_karras_sigmas" in parameters
    return tuple(name for name in UNDECLARED if reads and name not in parameters)


def register_undeclared(scheduler: SchedulerMixin, options: dict[str, Any]) -> None:
    """Writes undeclared options into the config of `scheduler`, where `save_pretrained` keeps them.

    Raises:
        ValueError: an option is not a positive number, or `sigma_min` is not below `sigma_max`.
    """
    for name, value in options.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise ValueError(f"`scheduler.{name}` must be a number above 0, got {value!r}.")
    low, high = (options.get(name) for name in UNDECLARED)
    if low is not None and high is not None and low >= high:
        raise ValueError(f"`scheduler.sigma_min` must be below `scheduler.sigma_max`, got {low} and {high}.")
    if options:
        scheduler.register_to_config(**options)
