"""Optional dependencies: whether they are there, and how they are installed, said in one place."""

from collections.abc import Sequence
from importlib.util import find_spec

DISTRIBUTION = "genhub-diffusers"  # on a package index, where `genhub` is another project


def how_to_install(extra: str) -> str:
    """Returns the command that installs an extra of `pyproject.toml`, and where to give it."""
    return f'`pip install -e ".[{extra}]"` in the clone'


def check_packages(what: str, packages: Sequence[str], how: str):
    """Checks that packages are installed.

    Args:
        what: needs them, as an error says.
        how: they are installed, by `how_to_install`.

    Raises:
        ValueError: some are missing.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ValueError(f"{what} needs {', '.join(missing)}: {how}.")
