"""Trees of whole numbers as plain data that JSON has room for, and back."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from psu_deploy.exporters.c.integers.layer import smallest

_KINDS = ("int8", "int16", "int32")


def as_plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Every array as `{"int8": its bytes in base64, little endian, "shape": [...]}`, in as few bytes as it needs."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found[name] = as_plain(value)
        elif isinstance(value, str):
            found[name] = value
        else:
            array = smallest(np.asarray(value, np.int64))
            content = array.astype(array.dtype.newbyteorder("<")).tobytes()
            found[name] = {array.dtype.name: base64.b64encode(content).decode(), "shape": list(array.shape)}
    return found


def from_plain(values: Any) -> Any:
    """What `as_plain` was given.

    Raises:
        ValueError: if it is anything else.
    """
    if isinstance(values, str):
        return values
    if not isinstance(values, dict):
        raise ValueError(f"there is {type(values).__name__} among the numbers of the network")
    if "shape" not in values or isinstance(values["shape"], dict):
        return {name: from_plain(value) for name, value in values.items()}
    kinds = [kind for kind in _KINDS if kind in values]
    if len(kinds) != 1 or len(values) != 2 or not isinstance(values["shape"], list):
        raise ValueError(f"numbers of the network lie there as {sorted(values)}, expected shape and one of {_KINDS}")
    try:
        content = base64.b64decode(values[kinds[0]], validate=True)
        return np.frombuffer(content, np.dtype(kinds[0]).newbyteorder("<")).reshape(values["shape"])
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"numbers of the network are damaged: {error}") from error
