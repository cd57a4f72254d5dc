"""Schedulers made from each other's configs, with options in these that no constructor lists."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import SchedulerMixin

from genhub.utils.ranges import MOST_STEPS, shown

ENDS = ("sigma_min", "sigma_max")  # of the Karras, exponential and beta noise levels, which constructors may not list
CLIPPING = "clip_sample"  # is kept for other schedulers that are made from the config; true if it does not say
UNDECLARED = (*ENDS, CLIPPING)


def check_timesteps(section: str, config: Mapping[str, Any]) -> None:
    """Raises ValueError if a config asks for more timesteps than can be computed at once, or none."""
    count = config.get("num_train_timesteps", 1)
    if isinstance(count, int | float) and not 1 <= count <= MOST_STEPS:
        raise ValueError(f"`{section}.num_train_timesteps` must be 1 to {MOST_STEPS:,}, got {shown(count)}.")


def undeclared_options(cls: type) -> tuple[str, ...]:
    """Returns the options that the config of a scheduler class may hold although the class does not declare them."""
    if not issubclass(cls, SchedulerMixin):
        return ()
    parameters = inspect.signature(cls).parameters
    known = [
        *(ENDS if "use_karras_sigmas" in parameters else ()),
        *((CLIPPING,) if "beta_schedule" in parameters else ()),
    ]
    return tuple(name for name in known if name not in parameters)


def register_undeclared(scheduler: Any, options: dict[str, Any]) -> None:
    """Writes undeclared options into the config of `scheduler`, where `save_pretrained` keeps them.

    Raises:
        ValueError: an end is not a positive number, `sigma_min` is not below `sigma_max`, or `clip_sample` is no truth
            value.
    """
    if not isinstance(options.get(CLIPPING, False), bool):
        raise ValueError(f"`scheduler.{CLIPPING}` must be true or false, got {options[CLIPPING]!r}.")
    for name in ENDS:
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise ValueError(f"`scheduler.{name}` must be a number above 0, got {value!r}.")
    low, high = (options.get(name) for name in ENDS)
    if low is not None and high is not None and low >= high:
        raise ValueError(f"`scheduler.sigma_min` must be below `scheduler.sigma_max`, got {low} and {high}.")
    if options:
        scheduler.register_to_config(**options)


def scheduler_from(config: Mapping[str, Any], cls: Any, arguments: dict[str, Any]) -> Any:
    """Returns a scheduler of class `cls` with the `config` of another one, but for `arguments`.

    Raises:
        ValueError: the class refuses a value, or needs a package that is not installed.
    """
    check_timesteps("scheduler", arguments)
    hidden = [name for name in UNDECLARED if name not in inspect.signature(cls).parameters]
    declared = {name: value for name, value in arguments.items() if name not in hidden}
    try:
        scheduler = cls.from_config({k: v for k, v in config.items() if k not in hidden}, **declared)
    except (TypeError, NotImplementedError, ImportError, ArithmeticError) as error:
        raise ValueError(f"`scheduler` cannot be {cls.__name__} with {declared}: {error}") from error
    options = {**config, **arguments}
    register_undeclared(scheduler, {name: options[name] for name in hidden if name in options})
    return scheduler


def check_alike(old: Any, new: Any) -> None:
    """Raises ValueError if `new` does not denoise as `old` does, or not with the noise levels of `old`."""
    name = type(new).__name__
    if _kind_of(new) != _kind_of(old):
        raise ValueError(f"`scheduler` must denoise as {type(old).__name__} does, got {name}.")
    if not hasattr(old, "alphas_cumprod"):
        return
    predictions = [scheduler.config.get("prediction_type") for scheduler in (old, new)]
    if predictions[0] != predictions[1]:
        raise ValueError("`scheduler.prediction_type` must be {}, that of the network, got {}.".format(*predictions))
    levels = getattr(new, "alphas_cumprod", None)
    if levels is None or levels.shape != old.alphas_cumprod.shape or not torch.allclose(levels, old.alphas_cumprod):
        raise ValueError(
            f"`scheduler` must have the noise levels that the network was trained on, the {len(old)} of "
            f"{type(old).__name__}, got other ones in {name}."
        )


def _kind_of(scheduler: Any) -> tuple[bool, bool, list[str]]:
    """Returns how a scheduler works: whether from scaled noise, whether towards the image, and what a step needs."""
    timesteps = getattr(scheduler, "timesteps", None)
    is_descending = timesteps is None or not len(timesteps) or bool(timesteps[0] >= timesteps[-1])
    step = getattr(scheduler, "step", None)
    parameters = inspect.signature(step).parameters.values() if step else ()
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    return hasattr(scheduler, "init_noise_sigma"), is_descending, needed


def check_range_of_latents(options: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Returns the options of a scheduler of latents, which have no range to be clipped to.

    Args:
        known: options that the scheduler knows.

    Raises:
        ValueError: an option clips x_0.
    """
    clipping = dict.fromkeys(("clip_sample", "thresholding"), False)
    for name in clipping:
        if options.get(name):
            raise ValueError(f"`scheduler.{name}` must be false: latents have no range to be clipped to.")
    return {name: value for name, value in clipping.items() if name in known} | options
