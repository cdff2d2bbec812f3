"""Rewrites of the canonical network that lower it to what a reader understands. Each does one thing."""

from __future__ import annotations

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
)
from psu_deploy.machine.ops.fields import Array, Shape

TINY = 2.0**-100
"""A threshold of nearly nothing: above what hardware flushes to zero, below any potential that matters."""


def unit_gains(network: Network) -> Network:
    """Leaks whose gains are 1: a `Mix` in front multiplies, so that a leak is `y = decay*y + x`."""
    vertices: list[Vertex] = []
    for vertex in network:
        leak = vertex.primitive
        if isinstance(leak, Leak) and leak.inputs == 1 and leak.gains != (1.0,):
            drive = Vertex(f"{vertex.name}__drive", mix([[gain] for gain in leak.gains]), vertex.inputs)
            ones = replace(leak, gains=(1.0,) * len(leak.gains), inputs=len(leak.gains))
            vertices += [drive, replace(vertex, primitive=ones, inputs=(drive.name,))]
        else:
            vertices.append(vertex)
    return replace(network, vertices=tuple(vertices))


def gains_before_decay(network: Network) -> Network:
    """Leaks `y = decay*(y + x)`: where the decay comes last, what stands in front divides by it."""
    vertices: list[Vertex] = []
    for vertex in network:
        leak = vertex.primitive
        if isinstance(leak, Leak) and all(leak.decays):
            divided = tuple(gain / decay for gain, decay in zip(leak.gains, leak.decays, strict=True))
            vertices.append(replace(vertex, primitive=replace(leak, gains=divided)))
        else:
            vertices.append(vertex)
    return replace(network, vertices=tuple(vertices))


def divided_inputs(network: Network) -> Network:
    """LIF neurons that divide their input by tau: where one does not, a `Mix` in front multiplies by it."""
    vertices: list[Vertex] = []
    for vertex in network:
        fire = vertex.primitive
        if isinstance(fire, Fire) and fire.tau is not None and not fire.decay_input:
            times_tau = Vertex(f"{vertex.name}__times_tau", mix([[fire.tau]]), vertex.inputs)
            vertices += [
                times_tau,
                replace(vertex, primitive=replace(fire, decay_input=True), inputs=(times_tau.name,)),
            ]
        else:
            vertices.append(vertex)
    return replace(network, vertices=tuple(vertices))


def moved_thresholds(network: Network, ties: str | None) -> Network:
    """Thresholds moved so that a reader with that tie rule decides as the neuron does; `fire_on` is the reader's then.

    `ties=None`: several readers, of both rules. A threshold between the float that must fire and the one that must not
    would suit all; there is none, so it is one of the two, moved even for the reader that would not need it: only a
    potential of exactly that float would tell readers apart, and one of exactly V_th is decided alike by all.
    """

    def rule(fire_on: str) -> str:
        return ties or (">" if fire_on == ">=" else ">=")

    changed: dict[str, Vertex | None] = {}
    for vertex in network:
        match vertex.primitive:
            case Step(thresholds, fire_on) as step:
                levels = tuple(moved(threshold, fire_on, rule(fire_on)) for threshold in thresholds)
                changed[vertex.name] = replace(
                    vertex, primitive=replace(step, thresholds=levels, fire_on=rule(fire_on))
                )
            case Fire(_, _, threshold, fire_on) as fire:
                level = moved(threshold, fire_on, rule(fire_on))
                changed[vertex.name] = replace(vertex, primitive=replace(fire, threshold=level, fire_on=rule(fire_on)))
    return network.replaced(changed)


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


def one_threshold(network: Network) -> Network:
    """Steps with one positive threshold: where there are several, a `Mix` in front subtracts them, and 0 is left.

    A threshold below zero goes the same way: snntorch resets a membrane that rests above its threshold.
    """
    vertices: list[Vertex] = []
    for vertex in network:
        step = vertex.primitive
        if isinstance(step, Step) and (len(set(step.thresholds)) > 1 or step.thresholds[0] < 0):
            copies = len(step.thresholds)
            shifted = Vertex(f"{vertex.name}__shift", mix(np.eye(copies), np.negative(step.thresholds)), vertex.inputs)
            zero = replace(step, thresholds=(0.0,) * copies)
            vertices += [shifted, replace(vertex, primitive=zero, inputs=(shifted.name,))]
        else:
            vertices.append(vertex)
    return replace(network, vertices=tuple(vertices))


def sums_for_means(network: Network) -> Network:
    """Mean poolings as sum poolings and a factor."""
    vertices: list[Vertex] = []
    for vertex in network:
        pool = vertex.primitive
        if isinstance(pool, Pool) and pool.average:
            total = Vertex(f"{vertex.name}__sum", replace(pool, average=False), vertex.inputs)
            factor = mix([[1.0 / prod(pool.kernel)]])
            vertices += [total, replace(vertex, primitive=factor, inputs=(total.name,))]
        else:
            vertices.append(vertex)
    return replace(network, vertices=tuple(vertices))


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


def expanded(matrix: Array, features: int) -> Array:
    """A matrix over copies as one over all entries of the first axis."""
    return np.asarray(np.kron(matrix, np.eye(features)), dtype=np.float64)
