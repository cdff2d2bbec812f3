"""Our metadata in a NIR graph: one JSON text under the key `psu_deploy`, and `dt` beside it for everybody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar

import nir
import numpy as np
from msgspec import Meta, Struct

from psu_deploy.errors import ArtifactError
from psu_deploy.exporters.nir.target import DT, FORMAT, KEY, TARGETS
from psu_deploy.runtime.header import Features, Header, malformed, read_header
from psu_deploy.runtime.readout import ReadoutKind

_MOST_LEVELS = 4096


class NeuronNode(Struct, frozen=True, forbid_unknown_fields=True):
    """Which node of the graph a neuron layer is, and its features."""

    node: str
    shape: Features


@dataclass(frozen=True, kw_only=True)
class NirHeader(Header):
    """What a NIR file of ours says of itself.

    Attributes:
        dt: seconds per step.
        flavour: the dialect, a name in `TARGETS`.
        readout: what the decoder says after every step; it is no part of the graph.
        neurons: layer -> its node.
        levels: of the staircases that stand for sigmoids; None = there are none, or the file does not say.
    """

    target: ClassVar[str] = "nir"
    format: ClassVar[str] = FORMAT

    horizon: None = None
    latency: Annotated[int, Meta(ge=0, le=0)] = 0
    dt: float
    flavour: str
    readout: ReadoutKind
    neurons: dict[str, NeuronNode]
    levels: Annotated[int, Meta(ge=1, le=_MOST_LEVELS)] | None = None


def write_metadata(graph: nir.NIRGraph, values: Mapping[str, Any]) -> None:
    """Put our metadata into a graph."""
    graph.metadata = {KEY: json.dumps(dict(values), indent=1), "dt": float(values["dt"])}


def header_of(path: Path, graph: nir.NIRGraph) -> NirHeader:
    """What a file says of itself, checked, and held against its graph.

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
        header = read_header(NirHeader, json.loads(text.decode() if isinstance(text, bytes) else str(text)))
        _check_dialect(header, graph.metadata.get("dt"))
        _check_neurons(header, graph)
        _check_ends(header, graph)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise malformed(path, KEY, error) from error
    return header


def _check_dialect(header: NirHeader, dt: Any) -> None:
    if header.flavour not in TARGETS:
        raise ValueError(f"the flavour is {header.flavour!r}")
    if header.dt != DT or dt != DT:
        raise ValueError(f"dt is {header.dt!r}, and {dt!r} beside our metadata, expected {DT}")


def _check_neurons(header: NirHeader, graph: nir.NIRGraph) -> None:
    unknown = {neuron.node for neuron in header.neurons.values()} - set(graph.nodes)
    if unknown:
        raise ValueError(f"the graph has no node {sorted(unknown)}")
    for neuron in header.neurons.values():
        shape = features_of(graph.nodes[neuron.node].output_type)
        if prod(shape) != prod(neuron.shape):
            raise ValueError(f"node {neuron.node!r} has features {shape}, the metadata say {neuron.shape}")


def _check_ends(header: NirHeader, graph: nir.NIRGraph) -> None:
    for kind, said in ((nir.Input, header.input_shape), (nir.Output, header.output_shape)):
        shapes = [features_of(node.input_type) for node in graph.nodes.values() if isinstance(node, kind)]
        if len(shapes) != 1 or prod(shapes[0]) != prod(said):
            raise ValueError(f"the features of the {kind.__name__} are {said}, the graph's are {shapes}")


def features_of(port: Mapping[str, Any]) -> tuple[int, ...]:
    """Features of a node's only port."""
    return tuple(int(n) for n in np.ravel(next(iter(port.values()))))
