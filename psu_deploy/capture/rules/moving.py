"""Rules of what moves numbers about and changes none: reshapes, permutations, repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from psu_deploy.capture.axes import BATCH, TIME, Axes, features_of, is_feature, merged, reshaped
from psu_deploy.capture.calls import Call, rule
from psu_deploy.capture.values import ALWAYS, EVERY, OtherStepsError, Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops


@rule("reshape", "view", "flatten", "unflatten", "view_as", "reshape_as", "unsqueeze", "squeeze", "ravel")
def reshape(call: Call, value: Value, *args: Any, **kwargs: Any) -> Value:
    """The same numbers in the same order under another shape, whatever was asked for."""
    return reshape_to(call, value, call.result)


def reshape_to(call: Call, value: Value, result: Tensor) -> Value:
    """Nothing at all, or Flatten or Reshape of the features.

    Raises:
        Refusal: if time, batch and features are mixed.
    """
    axes = reshaped(value.axes, tuple(result.shape), call.example)
    if axes is None:
        before, after = tuple(value.tensor.shape), tuple(result.shape)
        reason = f"turns {before} into {after}, which mixes time, batch and features"
        raise Refusal(reason, "keep (T, B, ...) or (T*B, ...) in front")
    axes = merged(axes)
    features = features_of(axes)
    if features == value.features:
        return call.same(value, axes)
    layer: ops.Layer = ops.Flatten() if len(features) == 1 else ops.Reshape(features)
    return call.emit(layer, (value,), axes)


@rule("permute")
def permute(call: Call, value: Value, *dims: Any) -> Value:
    """Axes in another order; time and batch may stand anywhere."""
    order = list(dims[0]) if dims and isinstance(dims[0], Sequence) else list(dims)
    return _permuted(call, value, [value.index(dim) for dim in order])


@rule("transpose", "swapaxes", "swapdims")
def transpose(call: Call, value: Value, dim0: int, dim1: int) -> Value:
    """Two axes change places."""
    order = list(range(len(value.axes)))
    first, second = value.index(dim0), value.index(dim1)
    order[first], order[second] = second, first
    return _permuted(call, value, order)


@rule("t", "T", "mT", "adjoint")
def last_two(call: Call, value: Value) -> Value:
    """The last two axes change places."""
    if len(value.axes) == 2 or call.name in ("mT", "adjoint"):
        return transpose(call, value, -2, -1)
    return _permuted(call, value, list(range(len(value.axes)))[::-1])


@rule("movedim", "moveaxis")
def movedim(call: Call, value: Value, source: Any, destination: Any) -> Value:
    """Axes go to other places."""
    sources, places = (
        [value.index(d) for d in (dims if isinstance(dims, Sequence) else [dims])] for dims in (source, destination)
    )
    order: list[int] = [-1] * len(value.axes)
    for place, dim in zip(places, sources, strict=True):
        order[place] = dim
    rest = iter(dim for dim in range(len(value.axes)) if dim not in sources)
    return _permuted(call, value, [next(rest) if dim < 0 else dim for dim in order])


def _permuted(call: Call, value: Value, order: Sequence[int]) -> Value:
    axes = tuple(value.axes[dim] for dim in order)
    start, where = 0, {}
    for index, axis in enumerate(value.axes):
        count = len(features_of((axis,)))
        where[index] = list(range(start, start + count))
        start += count
    features = tuple(atom for dim in order for atom in where[dim])
    if features == tuple(sorted(features)):
        return call.same(value, axes)
    return call.emit(ops.Permute(features), (value,), axes)


@rule("expand", "expand_as", "broadcast_to")
def expand(call: Call, value: Value, *args: Any, **kwargs: Any) -> Value:
    """An axis of size 1 becomes as long as wanted; a picture is shown at every step."""
    return _grown(call, value, call.result, repeats=None)


@rule("repeat", "tile")
def repeat(call: Call, value: Value, *sizes: Any) -> Value:
    """The numbers several times over, axis by axis."""
    counts = list(sizes[0]) if sizes and isinstance(sizes[0], Sequence) else list(sizes)
    counts = [1] * (call.result.ndim - len(counts)) + counts
    return _grown(call, value, call.result, repeats=counts)


def _grown(call: Call, value: Value, result: Tensor, repeats: Sequence[int] | None) -> Value:
    new = result.ndim - len(value.axes)
    padded: Axes = ((1,),) * new + value.axes
    value, padded = _shown(call, value, padded, new, result)
    axes = tuple((size,) if is_feature(axis) else axis for axis, size in zip(padded, result.shape, strict=True))
    features = features_of(axes)
    before = features_of(padded)
    if features == value.features:
        return Value(call.result, value.node, axes, value.when)
    layers: list[ops.Layer] = [] if before == value.features else [ops.Reshape(before)]
    if repeats is None or all(old in (1, now) for old, now in zip(before, features, strict=True)):
        return call.emit([*layers, ops.Expand(features)], (value,), axes)
    for axis, (old, now) in enumerate(zip(before, features, strict=True)):
        if now != old:
            layers.append(ops.Take(axis, tuple(range(old)) * (now // old)))
    return call.emit(layers, (value,), axes)


def _shown(call: Call, value: Value, padded: Axes, new: int, result: Tensor) -> tuple[Value, Axes]:
    """A picture with a first axis of size 1 that grows to any length: that axis is time."""
    if value.when != ALWAYS or padded[:2] != ((1,), (BATCH,)) or result.shape[0] == 1:
        return value, padded
    if result.shape[0] != call.example.steps:
        raise OtherStepsError(int(result.shape[0]))
    features = features_of(padded[1:])
    dropped: list[ops.Layer] = [] if new or not value.features else [ops.Reshape(features)]
    image = call.record.emit(
        "hold()",
        [*dropped, ops.Hold()],
        (value,),
        value.tensor.reshape(tuple(value.tensor.shape[1 - new :])),
        padded[1:],
    )
    held = Value(
        image.tensor.expand(call.example.steps, *image.tensor.shape), image.node, ((TIME,), *padded[1:]), EVERY
    )
    return held, ((TIME,), *padded[1:])
