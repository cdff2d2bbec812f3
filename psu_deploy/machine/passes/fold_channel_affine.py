"""Folds BatchNorm (a per-channel affine) into the Linear or convolution before it, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from psu_deploy.errors import InternalError
from psu_deploy.machine.graph import Node
from psu_deploy.machine.ops import ChannelAffine, Conv1d, Conv2d, Conv3d, Layer, Linear
from psu_deploy.machine.ops.fields import Array, Shape
from psu_deploy.machine.passes.base import Pass
from psu_deploy.machine.state_machine import StateMachine

Foldable = Linear | Conv1d | Conv2d | Conv3d
_TOLERANCE = 1e-12
"""Relative; folding is two float64 roundings per weight, each 1e-16."""


class FoldChannelAffine(Pass):
    """`scale*(W x + b) + shift` becomes `(scale*W) x + (scale*b + shift)`.

    Only where the affine is the sole reader of that layer. Its node goes; readers of it read the layer.
    """

    def apply(self, machine: StateMachine) -> StateMachine:
        while (found := _find(machine)) is not None:
            machine = _fold(machine, *found)
        return machine

    def ensures(self, before: StateMachine, after: StateMachine) -> None:
        """Nothing foldable is left. That each fold is right was checked as it was made."""
        if _find(after) is not None:
            raise InternalError("a foldable BatchNorm remains")


def foldable(machine: StateMachine) -> Iterator[tuple[Node, Node, Foldable]]:
    """Every layer that is still followed by an affine of its own, that affine, and what they are as one layer."""
    for producer, affine in _pairs(machine):
        assert isinstance(producer.layer, Linear | Conv1d | Conv2d | Conv3d)
        assert isinstance(affine.layer, ChannelAffine)
        yield producer, affine, _folded(producer.layer, affine.layer)


def _find(machine: StateMachine) -> tuple[Node, Node] | None:
    return next(_pairs(machine), None)


def _pairs(machine: StateMachine) -> Iterator[tuple[Node, Node]]:
    by_name = {node.name: node for node in machine.nodes}
    for node in machine.nodes:
        producer = by_name.get(node.inputs[0])
        if type(node.layer) is not ChannelAffine or producer is None:
            continue
        readers = sum(node.inputs.count(producer.name) for node in machine.nodes) + (machine.output == producer.name)
        # A Linear over (C, in) mixes the last axis; the affine's channels are the first.
        # By exact type: what a subclass does with its weights is not known here.
        channels_agree = type(producer.layer) in (Conv1d, Conv2d, Conv3d) or (
            type(producer.layer) is Linear and len(machine.shapes[producer.name]) == 1
        )
        if readers == 1 and channels_agree:
            yield producer, node


def _fold(machine: StateMachine, producer: Node, affine: Node) -> StateMachine:
    assert isinstance(producer.layer, Linear | Conv1d | Conv2d | Conv3d)
    assert isinstance(affine.layer, ChannelAffine)
    layer = _folded(producer.layer, affine.layer)
    _check(machine.shapes[producer.inputs[0]], producer, affine, layer)
    folded = Node(producer.name, layer, producer.inputs)
    nodes = []
    for node in machine.nodes:
        if node.name == affine.name:
            continue
        inputs = tuple(producer.name if name == affine.name else name for name in node.inputs)
        nodes.append(folded if node.name == producer.name else replace(node, inputs=inputs))
    output = producer.name if machine.output == affine.name else machine.output
    return StateMachine(tuple(nodes), machine.input_shape, output)


def _folded(layer: Foldable, affine: ChannelAffine) -> Foldable:
    scale = affine.scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    bias = np.zeros(len(affine.scale)) if layer.bias is None else layer.bias
    return replace(layer, weight=layer.weight * scale, bias=affine.scale * bias + affine.shift)


def _check(shape: Shape, producer: Node, affine: Node, folded: Foldable) -> None:
    """The folded layer equals layer then affine, on random input, in float64."""
    assert isinstance(producer.layer, Linear | Conv1d | Conv2d | Conv3d)
    x: Array = np.random.default_rng(0).standard_normal((1, 1, *_some_places(shape, producer.layer)))
    assert isinstance(affine.layer, ChannelAffine)
    expected, got = _run((producer.layer, affine.layer), x), _run((folded,), x)
    # What was summed, without the signs: where terms cancel, rounding is relative to them, not to the result.
    unsigned = ChannelAffine(np.abs(affine.layer.scale), np.abs(affine.layer.shift))
    summed = _run((_absolute(producer.layer), unsigned), np.abs(x))
    if (np.abs(got - expected) > _TOLERANCE * summed).any():
        change = np.abs(got - expected).max()
        raise InternalError(f"folding {affine.name!r} into {producer.name!r} changed the result by {change}")


def _some_places(shape: Shape, layer: Foldable) -> Shape:
    """What a layer reads, or as much of it as makes a few places: a convolution does the same at all of them."""
    if isinstance(layer, Linear):
        return shape
    reach = ((kernel - 1) * step + 1 for kernel, step in zip(layer.weight.shape[2:], layer.dilation, strict=True))
    return (shape[0], *(min(n, places + 1) for n, places in zip(shape[1:], reach, strict=True)))


def _run(layers: Sequence[Layer], x: Array) -> Array:
    """A chain of layers on a sequence."""
    nodes = [Node(str(index), layer, (str(index - 1) if index else "x",)) for index, layer in enumerate(layers)]
    result: Array = StateMachine(tuple(nodes), x.shape[2:]).run(x)
    return result


def _absolute(layer: Foldable) -> Foldable:
    return replace(layer, weight=np.abs(layer.weight), bias=None if layer.bias is None else np.abs(layer.bias))
