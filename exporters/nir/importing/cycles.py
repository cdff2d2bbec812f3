"""Memory that is written as a cycle, because some readers know no LI or Delay node.

A cycle in NIR means one step of delay. One is understood: a node a that takes its input and what b gives back, and a
node b that mixes the channels of a,

    a[t] = g*(x[t] + b[t-1]),  b[t] = D a[t],     which is  a[t] = A a[t-1] + g*x[t],  A = g D.

With A diagonal that is a leak per channel; with A^k = 0 it is a shift register, `a[t] = g * sum_j A^j x[t-j]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.errors import Problem
from psu_deploy.exporters.nir.files import Flat
from psu_deploy.exporters.nir.files.nodes import kind_name, numbers
from psu_deploy.exporters.nir.files.shapes import whole
from psu_deploy.exporters.nir.importing.layers import Branches, Layers, masked_leak
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array, Shape

_LONGEST = 64
"""Steps that a shift register may remember."""


def take_cycles(flat: Flat, shapes: dict[str, tuple[Shape, Shape]]) -> tuple[Flat, dict[str, Layers | Branches]]:
    """A graph without the cycles that are memory.

    Returns:
        The graph without the nodes b and their edges, and node a -> the layers that it is.
    """
    sources, readers = flat.sources(), flat.readers()
    known: dict[str, Layers | Branches] = {}
    gone = set()
    for back in flat.nodes:
        if len(sources[back]) != 1 or sources[back] != readers[back] or sources[back] == [back]:
            continue
        (front,) = sources[back]
        if front in known or front in gone:
            continue
        gain = factor(flat.nodes[front], shapes[front][0])
        mixing = _mixing(flat.nodes[back], shapes[back][0])
        memory = None if gain is None or mixing is None else _memory(gain, gain * mixing, shapes[front][0])
        if memory is not None:
            known[front] = memory
            gone.add(back)
    return without(flat, gone), known


def without(flat: Flat, gone: set[str]) -> Flat:
    """A graph without some nodes and their edges."""
    nodes = {name: node for name, node in flat.nodes.items() if name not in gone}
    edges = [edge for edge in flat.edges if gone.isdisjoint(edge)]
    return Flat(nodes, edges, flat.input, flat.output)


def cycle_problem(names: list[str], flat: Flat, spiking: tuple[str, ...]) -> Problem:
    """Why a cycle cannot be run."""
    fires = [name for name in names if kind_name(flat.nodes[name]) in spiking]
    if fires:
        reason = f"{fires[0]} feeds its spikes back to itself; the machine has no feedback through spikes"
        remedy = "use a network without recurrent weights"
    else:
        reason = "a cycle that is no leak"
        remedy = "a cycle may have two nodes, where one only scales the other; or use LI"
    return Problem(" -> ".join([*names, names[0]]), kind_name(flat.nodes[names[0]]), reason, remedy)


def factor(node: Any, features: Shape) -> float | None:
    """The number d where a node is `y = d x`; None for any other."""
    matrix = _mixing(node, features)
    diagonal = None if matrix is None else _diagonal(matrix)
    return None if diagonal is None or (diagonal != diagonal[0]).any() else float(diagonal[0])


def _memory(gain: float, transition: Array, features: Shape) -> Layers | Branches | None:
    decays = _diagonal(transition)
    if decays is not None:
        kinds = np.unique(decays)
        if len(kinds) == 1:
            return [ops.Filter(ops.Leak(gain, float(kinds[0])))]
        return Branches(tuple(masked_leak(gain * (decays == decay), float(decay)) for decay in kinds))
    powers = [np.eye(len(transition))]
    while powers[-1].any() and len(powers) <= _LONGEST:
        powers.append(powers[-1] @ transition)
    if powers[-1].any():
        return None
    chains = (_lagged(gain * power, lag, features) for lag, power in enumerate(powers[:-1]))
    return Branches(tuple(chains))


def _lagged(matrix: Array, lag: int, features: Shape) -> Layers:
    delay: Layers = [ops.Delay(lag)] if lag else []
    axes = len(features) - 1
    if axes == 0:
        return [*delay, ops.Linear(matrix)]
    kind = ops.Conv1d if axes == 1 else ops.Conv2d
    kernel = matrix.reshape(*matrix.shape, *[1] * axes)
    return [*delay, kind(kernel, None, (1,) * axes, ((0, 0),) * axes, (1,) * axes, 1)]


def _mixing(node: Any, features: Shape) -> Array | None:
    """(C, C) where a node is `y = M x` over the channels, the same at every place; None for any other."""
    match kind_name(node):
        case "Scale":
            rows = np.broadcast_to(numbers(node, "scale"), features).reshape(features[0], -1)
            return np.diag(rows[:, 0]) if (rows == rows[:, :1]).all() else None
        case "Affine" | "Linear":
            matrix = numbers(node, "weight")
        case "Conv1d" | "Conv2d":
            weight = numbers(node, "weight")
            plain = weight[0, 0].size == 1 and whole(node.groups, "groups", 1) == (1,)
            plain = plain and set(whole(node.stride, "stride", 1)) == {1}
            plain = plain and (isinstance(node.padding, str) or not any(whole(node.padding, "padding", 0)))
            if not plain:
                return None
            matrix = weight.reshape(weight.shape[:2])
        case _:
            return None
    bias = getattr(node, "bias", None)
    square = matrix.ndim == 2 and matrix.shape == (features[0], features[0])
    return None if not square or (bias is not None and numbers(node, "bias").any()) else matrix


def _diagonal(matrix: Array) -> Array | None:
    """The diagonal of a diagonal matrix; None for any other."""
    diagonal = np.diag(matrix)
    return diagonal if np.count_nonzero(matrix - np.diag(diagonal)) == 0 else None
