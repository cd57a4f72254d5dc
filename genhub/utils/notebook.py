"""Where a notebook's kernel runs this process."""

import sys


def in_notebook() -> bool:
    """Returns whether a kernel of IPython runs this process."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None
