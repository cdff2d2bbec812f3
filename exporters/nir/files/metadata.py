"""What a NIR graph says about itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from psu_deploy.errors import ArtifactError

_LONGEST = 1e12
"""Seconds; a step longer than that is a mistake, or a number that no float holds."""

KEY = "psu_deploy"
"""Where our exporter leaves its JSON."""


def read_metadata(graph: Any, source: str = "the NIR graph") -> dict[str, Any]:
    """What our exporter wrote about a graph; `{}` or `{"dt": seconds}` for a graph of somebody else.

    Args:
        graph: a `nir.NIRGraph`.
        source: what messages call it.

    Raises:
        ArtifactError: if it is no JSON dictionary, or its time step is no number above zero.
    """
    metadata = graph.metadata if isinstance(graph.metadata, dict) else {}
    theirs = {"dt": metadata["dt"]} if "dt" in metadata else {}
    found = _ours(metadata[KEY], source) if KEY in metadata else theirs
    if "dt" in found:
        found["dt"] = _seconds(found["dt"], source)
    return found


def _ours(text: Any, source: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{source}: its metadata {KEY!r} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{source}: its metadata {KEY!r} must be a dictionary, got {type(found).__name__}")
    return found


def _seconds(value: Any, source: str) -> float:
    number = value.item() if isinstance(value, np.generic | np.ndarray) and np.size(value) == 1 else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < _LONGEST:
        raise ArtifactError(f"{source}: its metadata says dt = {value!r}; expected seconds per step, a number above 0")
    return float(number)
