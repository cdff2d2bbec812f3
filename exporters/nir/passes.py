"""Rewrites of the canonical network that lower it to what a reader understands. Each does one thing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir import geometry
from psu_deploy.exporters.nir.primitives import (
    INPUT,
    Convolution,
    Dense,
    Fire,
    Flatten,
    Leak,
    Mix,
    Network,
    Pool,
    Primitive,
    Step,
    Vertex,
    mix,
    scale,
)
from psu_deploy.machine.ops.fields import Shape

TINY = 2.0**-100
"""A threshold of nearly nothing: above what hardware flushes to zero, below any potential that matters."""


def _vertex_by_vertex(rule: Callable[[Vertex], list[Vertex]]) -> Callable[[Network], Network]:
    """A pass of a rule: vertex -> what stands in its place."""

    @functools.wraps(rule)
    def one_pass(network: Network) -> Network:
        return replace(network, vertices=tuple(new for vertex in network for new in rule(vertex)))

    return one_pass


def _in_front(role: str, first: Primitive, vertex: Vertex, then: Primitive) -> list[Vertex]:
    """A vertex as two: what it reads goes through another one first."""
    before = Vertex(f"{vertex.name}__{role}", first, vertex.inputs)
    return [before, replace(vertex, primitive=then, inputs=(before.name,))]


@_vertex_by_vertex
def unit_gains(vertex: Vertex) -> list[Vertex]:
    """Leaks whose gains are 1: a `Mix` in front multiplies, so that a leak is `y = decay*y + x`."""
    leak = vertex.primitive
    if not isinstance(leak, Leak) or leak.inputs != 1 or leak.gains == (1.0,):
        return [vertex]
    ones = replace(leak, gains=(1.0,) * len(leak.gains), inputs=len(leak.gains))
    return _in_front("drive", mix([[gain] for gain in leak.gains]), vertex, ones)


@_vertex_by_vertex
def gains_before_decay(vertex: Vertex) -> list[Vertex]:
    """Leaks `y = decay*(y + x)`: where the decay comes last, what stands in front divides by it."""
    leak = vertex.primitive
    if not isinstance(leak, Leak) or not all(leak.decays):
        return [vertex]
    divided = tuple(gain / decay for gain, decay in zip(leak.gains, leak.decays, strict=True))
    return [replace(vertex, primitive=replace(leak, gains=divided))]


@_vertex_by_vertex
def divided_inputs(vertex: Vertex) -> list[Vertex]:
    """LIF neurons that divide their input by tau: where one does not, a `Mix` in front multiplies by it."""
    fire = vertex.primitive
    if not isinstance(fire, Fire) or fire.tau is None or fire.decay_input:
        return [vertex]
    return _in_front("times_tau", scale(fire.tau), vertex, replace(fire, decay_input=True))


def moved_thresholds(network: Network, ties: str | None) -> Network:
    """Thresholds moved so that a reader with that tie rule decides as the neuron does; `fire_on` is the reader's then.

    `ties=None`: several readers, of both rules. A threshold between the float that must fire and the one that must not
    would suit all; there is none, so it is one of the two, moved even for the reader that would not need it: only a
    potential of exactly that float would tell readers apart, and one of exactly V_th is decided alike by all.
    """

    def with_moved(vertex: Vertex) -> list[Vertex]:
        part = vertex.primitive
        if not isinstance(part, Step | Fire):
            return [vertex]
        theirs = ties or (">" if part.fire_on == ">=" else ">=")
        if isinstance(part, Fire):
            level = moved(part.threshold, part.fire_on, theirs)
            return [replace(vertex, primitive=replace(part, threshold=level, fire_on=theirs))]
        levels = tuple(moved(threshold, part.fire_on, theirs) for threshold in part.thresholds)
        return [replace(vertex, primitive=replace(part, thresholds=levels, fire_on=theirs))]

    return _vertex_by_vertex(with_moved)(network)


def moved(threshold: float, fire_on: str, ties: str) -> float:
    """The float32 threshold at which a reader with that tie rule does what `fire_on` says.

    `>=` at a threshold is `>` at the float below it. Where both agree the threshold stays as it is.
    """
    exact = np.float32(threshold)
    if fire_on == ties:
        return float(exact)
    down = fire_on == ">="
    if abs(exact) < TINY:
        return -TINY if down else TINY
    return float(np.nextafter(exact, np.float32(-np.inf if down else np.inf)))


@_vertex_by_vertex
def one_threshold(vertex: Vertex) -> list[Vertex]:
    """Steps with one positive threshold: where there are several, a `Mix` in front subtracts them, and 0 is left.

    A threshold below zero goes the same way: snntorch resets a membrane that rests above its threshold.
    """
    step = vertex.primitive
    if not isinstance(step, Step) or (len(set(step.thresholds)) == 1 and step.thresholds[0] >= 0):
        return [vertex]
    copies = len(step.thresholds)
    shift = mix(np.eye(copies), np.negative(step.thresholds))
    return _in_front("shift", shift, vertex, replace(step, thresholds=(0.0,) * copies))


@_vertex_by_vertex
def sums_for_means(vertex: Vertex) -> list[Vertex]:
    """Mean poolings as sum poolings and a factor."""
    pool = vertex.primitive
    if not isinstance(pool, Pool) or not pool.average:
        return [vertex]
    return _in_front("sum", replace(pool, average=False), vertex, scale(1.0 / prod(pool.kernel)))


def keep_images(network: Network) -> Network:
    """No `Flatten`: what was flat keeps its axes, and a dense layer behind it becomes a convolution over all of it."""
    shapes = network.shapes()
    flat: dict[str, bool] = {}
    physical: dict[str, Shape] = {INPUT: network.input_shape}
    renamed = {INPUT: INPUT}
    vertices: list[Vertex] = []
    for vertex in network:
        source = renamed[vertex.inputs[0]]
        was_flat = flat.get(source, False)
        if isinstance(vertex.primitive, Flatten) and len(shapes[vertex.inputs[0]]) > 1:
            renamed[vertex.name] = source
            flat[source] = True
            continue
        inputs = tuple(renamed[name] for name in vertex.inputs)
        if len({physical[name] for name in inputs}) > 1:
            raise Refusal(
                "a sum of a flattened image and a dense layer; no reader flattens a batch right",
                "flatten both branches behind the sum",
            )
        primitive = vertex.primitive
        if was_flat and isinstance(primitive, Dense):
            primitive = _dense_over_image(primitive, physical[source])
        renamed[vertex.name] = vertex.name
        flat[vertex.name] = was_flat
        physical[vertex.name] = primitive.output_shape(physical[source])
        vertices.append(replace(vertex, primitive=primitive, inputs=inputs))
    if network.output != INPUT and renamed[network.output] == INPUT:
        raise Refusal("a network that only flattens", "add a layer")
    spiking = {layer: renamed[name] for layer, name in network.spiking.items()}
    return replace(network, vertices=tuple(vertices), output=renamed[network.output], spiking=spiking)


def _dense_over_image(layer: Dense, shape: Shape) -> Convolution:
    axes = len(shape) - 1
    weight = layer.weight.reshape(len(layer.bias), *shape)
    return geometry.regular(weight, layer.bias, shape, (1,) * axes, ((0, 0),) * axes, (1,) * axes)


def fold(network: Network) -> Network:
    """No factor of its own where the layer before or behind it can carry it."""
    while (found := _foldable(network)) is not None:
        network = found
    return network


def _foldable(network: Network) -> Network | None:
    by_name = {vertex.name: vertex for vertex in network}
    kept = {network.output, *network.spiking.values()}
    for vertex in network:
        if not isinstance(vertex.primitive, Mix) or len(vertex.inputs) != 1 or vertex.feedback:
            continue
        before = by_name.get(vertex.inputs[0])
        alone = before is not None and before.name not in kept and len(network.readers(before.name)) == 1
        if alone and before is not None and not before.feedback:
            joined = _behind(before.primitive, vertex.primitive)
            if joined is not None:
                return _joined(network, before, vertex, replace(before, name=vertex.name, primitive=joined))
        readers = network.readers(vertex.name)
        if len(readers) == 1 and vertex.name not in kept and readers[0].inputs == (vertex.name,):
            ahead = _ahead(vertex.primitive, readers[0].primitive)
            if ahead is not None:
                into = replace(readers[0], primitive=ahead, inputs=vertex.inputs)
                return _joined(network, vertex, readers[0], into)
    return None


def _joined(network: Network, first: Vertex, second: Vertex, both: Vertex) -> Network:
    """`second` gives way to `both`, in its place; `first` goes."""
    return network.replaced({first.name: None, second.name: both})


def _behind(before: Primitive, factor: Mix) -> Primitive | None:
    """A linear layer with the mix behind it taken in; None where it would only grow, or where a sum of two constants
    would lose the one float by which a threshold was moved.
    """
    single = factor.matrix.shape == (1, 1)
    if single and factor.bias.any() and (not isinstance(before, Mix) or before.bias.any()):
        return None
    if isinstance(before, Mix):
        return mix(factor.matrix @ before.matrix, factor.matrix @ before.bias + factor.bias)
    if not single or not isinstance(before, Dense | Convolution):
        return None
    gain = float(factor.matrix[0, 0])
    return replace(before, weight=gain * before.weight, bias=gain * before.bias)


def _ahead(factor: Mix, behind: Primitive) -> Primitive | None:
    """A linear layer with the factor in front of it taken in."""
    plain = factor.matrix.shape == (1, 1) and not factor.bias.any()
    if not plain or not isinstance(behind, Dense | Convolution):
        return None
    return replace(behind, weight=float(factor.matrix[0, 0]) * behind.weight)
