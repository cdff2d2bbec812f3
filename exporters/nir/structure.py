"""Holds a NIR graph against what exporting a machine writes: emitted again, compared node by node, number by number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

import nir
import numpy as np

from psu_deploy.errors import UnsupportedModelError
from psu_deploy.exporters.nir.approximate import with_staircases
from psu_deploy.exporters.nir.emit import emit
from psu_deploy.exporters.nir.target import KEY, TARGETS
from psu_deploy.machine import StateMachine
from psu_deploy.runtime.structure import Structure, first_of, judged_by_version, metadata_difference

_OF_THE_WRITER = {"versions", "reader_versions", "machine_hash", "fidelity", "approximations", "levels"}
"""Metadata that say who wrote the file from what, and what that cost: not what it computes."""

_INFERRED = {"input_type", "output_type", "metadata"}
"""Of a node: what follows from the rest."""


def structure_of(graph: nir.NIRGraph, metadata: Mapping[str, Any], machine: StateMachine) -> Structure:
    """How a file stands against an export of a machine, in the dialect the file was written in.

    Args:
        graph: of the file.
        metadata: ours, in it.
        machine: what it should be an export of.
    """
    levels = metadata.get("levels")
    if metadata["fidelity"] == "approximate" and levels is None:
        return Structure(unchecked="the file does not say how many levels its staircases have; export it again")
    machine = machine if levels is None else with_staircases(machine, levels)
    try:
        expected = emit(machine, TARGETS[metadata["flavour"]], {})
    except UnsupportedModelError as error:
        return Structure((f"this network cannot be exported to NIR like this: {error.problems[0].reason}",))
    found = first_of(_differences(graph, expected, metadata))
    return judged_by_version(found, metadata["versions"].get("psu-deploy"), version("psu-deploy"))


def _differences(graph: nir.NIRGraph, expected: nir.NIRGraph, metadata: Mapping[str, Any]) -> Iterator[str]:
    said = json.loads(expected.metadata[KEY])
    for name in sorted(graph.nodes.keys() | expected.nodes.keys()):
        if name not in graph.nodes or name not in expected.nodes:
            yield f"node {name!r} {'is missing' if name in expected.nodes else 'should not be there'}"
        else:
            yield from _node_differences(name, graph.nodes[name], expected.nodes[name])
    for edge, wanted in zip_longest(graph.edges, expected.edges):
        if edge != wanted:
            yield f"an edge is {edge}, exporting this network gives {wanted}; their order is that of the sums"
            break
    for key in sorted(said.keys() - _OF_THE_WRITER):
        yield from metadata_difference(key, metadata.get(key), said[key])


def _node_differences(name: str, node: Any, expected: Any) -> Iterator[str]:
    if type(node) is not type(expected):
        yield f"node {name!r} is {type(node).__name__}, exporting this network gives {type(expected).__name__}"
        return
    for key in (field.name for field in fields(expected) if field.name not in _INFERRED):
        value, wanted = (_plain(getattr(n, key)) for n in (node, expected))
        if value.shape != wanted.shape or value.dtype.kind != wanted.dtype.kind:
            is_, should = (f"{v.dtype} of shape {v.shape}" for v in (value, wanted))
            yield f"node {name!r}: {key} is {is_}, exporting this network gives {should}"
        elif not np.array_equal(value, wanted):
            at = tuple(int(i) for i in np.argwhere(np.atleast_1d(value != wanted))[0][: value.ndim])
            where = f" at {at}" if at else ""
            yield f"node {name!r}: {key} is {value[at]}{where}, exporting this network gives {wanted[at]}"


def _plain(value: Any) -> Any:
    """As an array: whole numbers, real numbers, text, or nothing."""
    return np.asarray(value.decode() if isinstance(value, bytes) else value)
