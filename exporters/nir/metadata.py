"""Our metadata in a NIR graph: one JSON text under the key `psu_deploy`, and `dt` beside it for everybody."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import nir
import numpy as np

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.nir.target import DT, FORMAT, KEY, TARGETS

_MOST_LEVELS = 4096


def write_metadata(graph: nir.NIRGraph, values: Mapping[str, Any]) -> None:
    """Put our metadata into a graph."""
    graph.metadata = {KEY: json.dumps(dict(values), indent=1), "dt": float(values["dt"])}


def our_metadata(path: Path, graph: nir.NIRGraph) -> dict[str, Any]:
    """Decoded and held against the graph.

    Raises:
        ArtifactError: if the file is not ours, of another format, or its metadata do not fit its graph.
    """
    text = graph.metadata.get(KEY)
    if text is None:
        raise ArtifactError(
            f"{path} is a NIR file but was not written by psu-deploy; "
            "psu_deploy.importers.nir.load reads it into a machine"
        )
    try:
        values = json.loads(text.decode() if isinstance(text, bytes) else str(text))
        _check(values, graph)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} has malformed {KEY} metadata, or is truncated: {error}") from error
    return dict(values)


def _check(values: Any, graph: nir.NIRGraph) -> None:
    if values["format"] != FORMAT:
        raise ValueError(f"format {values['format']!r}; this release reads {FORMAT!r}")
    wrong = [key for key, fits in _FITS.items() if not fits(values[key])]
    wrong += [key for key, fits in _MAY_FIT.items() if key in values and not fits(values[key])]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is {values[wrong[0]]!r}")
    if graph.metadata.get("dt") != DT:
        raise ValueError(f"dt is {graph.metadata.get('dt')!r} beside our metadata, expected {DT}")
    unknown = {neuron["node"] for neuron in values["neurons"].values()} - set(graph.nodes)
    if unknown:
        raise ValueError(f"the graph has no node {sorted(unknown)}")
    for neuron in values["neurons"].values():
        shape = next(iter(graph.nodes[neuron["node"]].output_type.values()))
        if prod(int(n) for n in np.ravel(shape)) != prod(neuron["shape"]):
            raise ValueError(f"node {neuron['node']!r} has features {shape}, the metadata say {neuron['shape']}")
    for kind, key in ((nir.Input, "input_shape"), (nir.Output, "output_shape")):
        ends = [node for node in graph.nodes.values() if isinstance(node, kind)]
        shapes = [tuple(int(n) for n in np.ravel(next(iter(node.input_type.values())))) for node in ends]
        if len(shapes) != 1 or prod(shapes[0]) != prod(values[key]):
            raise ValueError(f"{key} is {values[key]}, the graph's {kind.__name__} has {shapes}")


def _shape(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(n) is int and n > 0 for n in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _neuron(value: Any) -> bool:
    return value.keys() == {"node", "shape"} and isinstance(value["node"], str) and _shape(value["shape"])


_FITS: dict[str, Callable[[Any], bool]] = {
    "dt": lambda v: v == DT,
    "flavour": lambda v: v in TARGETS,
    "fidelity": lambda v: v in ("faithful", "approximate"),
    "approximations": _texts,
    "static_input": lambda v: isinstance(v, bool),
    "machine_hash": lambda v: isinstance(v, str),
    "versions": lambda v: isinstance(v, dict) and _texts(list(v.values())),
    "input_shape": _shape,
    "output_shape": _shape,
    "readout": lambda v: v in ("mean", "sum", "last"),
    "neurons": lambda v: isinstance(v, dict) and all(map(_neuron, v.values())),
}
"""Key -> whether a value makes sense."""

_MAY_FIT: dict[str, Callable[[Any], bool]] = {"levels": lambda v: type(v) is int and 1 <= v <= _MOST_LEVELS}
"""The same of keys that not every file has."""
