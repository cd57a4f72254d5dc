"""How an optional dependency is installed, said in one place."""

DISTRIBUTION = "genhub-diffusers"  # on a package index, where `genhub` is another project


def how_to_install(extra: str) -> str:
    """Returns the command that installs an extra of `pyproject.toml`, and where to give it."""
    return f'`pip install -e ".[{extra}]"` in the clone'
