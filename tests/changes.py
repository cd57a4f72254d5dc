"""Values of JSON with one change, for tests of what a stranger's may hold."""

import copy
from typing import Any

DELETE = object()  # in place of a value: the key is removed


def changed(value: Any, keys: tuple, new: Any) -> Any:
    """Returns a copy of nested values with another one at the end of `keys`."""
    node = value = copy.deepcopy(value)
    for key in keys[:-1]:
        node = node[key]
    if new is DELETE:
        del node[keys[-1]]
    else:
        node[keys[-1]] = new
    return value
