"""What the numbers that commands take may be."""

from genhub.utils.ranges import Range, shown

MOST_IMAGES = 10**6  # that a command makes, holds or draws
ARGUMENTS = {
    "seed": Range(0, 2**63 - 1),
    "steps": Range(1, MOST_IMAGES),
    **dict.fromkeys(("count", "batch_size"), Range(1, MOST_IMAGES)),
    **dict.fromkeys(("cas", "likelihood"), Range(0, MOST_IMAGES)),
}


def check_arguments(**arguments: int | None) -> None:
    """Checks arguments of a command that are numbers of images, steps or seeds, before any work.

    Raises:
        ValueError: one is out of its range.
    """
    for name, value in arguments.items():
        if value is not None and (rule := ARGUMENTS[name].rule_against(value)):
            raise ValueError(f"`{name}` must be {rule}, got {shown(value)}.")
