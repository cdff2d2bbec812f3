"""Leaks that are written as cycles, because some readers know no LI node.

A cycle in NIR means one step of delay. One is understood: a node a that takes its input and what b gives back, and a
node b that only scales a,

    a[t] = g*(x[t] + b[t-1]),  b[t] = d*a[t],     which is  a[t] = g*d*a[t-1] + g*x[t].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.errors import Problem
from psu_deploy.machine import operators
from psu_deploy.machine.fields import Array, Shape
from psu_deploy.nir_files import Flat
from psu_deploy.nir_files.nodes import kind_name, numbers
from psu_deploy.nir_files.shapes import whole


def take_leaks(flat: Flat, shapes: dict[str, tuple[Shape, Shape]]) -> tuple[Flat, dict[str, operators.Leak]]:
    """A graph without the cycles that are leaks.

    Returns:
        The graph without the nodes b and their edges, and node a -> the leak that it is.
    """
    sources, readers = flat.sources(), flat.readers()
    leaks, gone = {}, set()
    for back in flat.nodes:
        if len(sources[back]) != 1 or sources[back] != readers[back] or sources[back] == [back]:
            continue
        (front,) = sources[back]
        gains = [_factor(flat.nodes[name], shapes[name][0]) for name in (front, back)]
        if gains[0] is None or gains[1] is None or front in leaks or front in gone:
            continue
        leaks[front] = operators.Leak(gains[0], gains[0] * gains[1])
        gone.add(back)
    nodes = {name: node for name, node in flat.nodes.items() if name not in gone}
    edges = [edge for edge in flat.edges if gone.isdisjoint(edge)]
    return Flat(nodes, edges, flat.input, flat.output), leaks


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


def _factor(node: Any, features: Shape) -> float | None:
    """The number d where a node is `y = d x`; None for any other."""
    diagonal: Array | None
    match kind_name(node):
        case "Scale":
            diagonal = np.broadcast_to(numbers(node, "scale"), features).ravel()
        case "Affine" | "Linear":
            diagonal = _diagonal(numbers(node, "weight"))
        case "Conv1d" | "Conv2d":
            weight = numbers(node, "weight")
            plain = weight[0, 0].size == 1 and weight.shape[0] == features[0]
            plain = plain and whole(node.groups, "groups", 1) == (1,) and set(whole(node.stride, "stride", 1)) == {1}
            plain = plain and (isinstance(node.padding, str) or not any(whole(node.padding, "padding", 0)))
            diagonal = _diagonal(weight.reshape(weight.shape[:2])) if plain else None
        case _:
            return None
    bias = getattr(node, "bias", None)
    if diagonal is None or (diagonal != diagonal[0]).any() or (bias is not None and numbers(node, "bias").any()):
        return None
    return float(diagonal[0])


def _diagonal(weight: Array) -> Array | None:
    """The diagonal of a diagonal matrix; None for any other."""
    square = weight.ndim == 2 and weight.shape[0] == weight.shape[1]
    return np.diag(weight) if square and np.count_nonzero(weight - np.diag(np.diag(weight))) == 0 else None
