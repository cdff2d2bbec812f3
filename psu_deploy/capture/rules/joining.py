"""Rules of cat and stack: features side by side, or the steps of a loop one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from psu_deploy.capture.axes import BATCH, TIME, features_of
from psu_deploy.capture.calls import Call, rule
from psu_deploy.capture.rules import over_time
from psu_deploy.capture.steps import single
from psu_deploy.capture.values import ALWAYS, EVERY, OtherStepsError, Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops


@rule("stack")
def stack(call: Call, tensors: Sequence[Any], dim: int = 0) -> Value:
    """A new axis: time, where every step of a loop is given in order."""
    values = [one for one in tensors if isinstance(one, Value)]
    if len(values) == len(tensors) and all(single(value) is not None for value in values):
        whole = _sequence(call, values, dim)
        if whole is not None:
            return whole
    if len(values) == len(tensors) and _is_picture(call, values):
        return _held(call, values[0])
    axis = dim + call.result.ndim if dim < 0 else dim
    widened = [_widened(call, one, axis) for one in tensors]
    return _side_by_side(call, widened, axis)


@rule("cat", "concat", "concatenate")
def cat(call: Call, tensors: Sequence[Any], dim: int = 0) -> Value:
    """Along a feature axis; or the steps of a loop, each with a time axis of its own."""
    values = [one for one in tensors if isinstance(one, Value)]
    axis = dim + call.result.ndim if dim < 0 else dim
    if len(values) == len(tensors) and all(single(value) is not None and value.axes[axis] == (1,) for value in values):
        dropped = [_without(call, value, axis) for value in values]
        whole = _sequence(call, dropped, axis)
        if whole is not None:
            return whole
    shifted = over_time.joined(call, tensors, axis)
    return _side_by_side(call, list(tensors), axis) if shifted is None else shifted


def _sequence(call: Call, values: list[Value], dim: int) -> Value | None:
    """The values of all steps, if they are one node's."""
    steps = [single(value) for value in values]
    if steps != list(range(call.example.steps)):
        if call.example.image and steps == list(range(len(steps))) and len(steps) > 1:
            raise OtherStepsError(len(steps))
        if len(set(steps)) == 1:
            return None
        raise Refusal("joins some of the steps, or in another order", "stack the results of every step, in order")
    if len({(value.node, value.axes) for value in values}) > 1:
        raise Refusal("joins steps that were not computed alike", "do the same at every step")
    axis = dim + call.result.ndim if dim < 0 else dim
    axes = (*values[0].axes[:axis], (TIME,), *values[0].axes[axis:])
    return Value(call.result, values[0].node, axes, EVERY)


def _without(call: Call, value: Value, axis: int) -> Value:
    """An axis of size 1 less."""
    axes = (*value.axes[:axis], *value.axes[axis + 1 :])
    layer = ops.Reshape(features_of(axes))
    return call.record.emit(f"{call.name}()", layer, (value,), value.tensor.squeeze(axis), axes, value.when)


def _is_picture(call: Call, values: list[Value]) -> bool:
    first = values[0]
    same = all(value.node == first.node and value.when == ALWAYS for value in values)
    if not same or not call.example.image or first.axes[:1] != ((BATCH,),):
        return False
    if len(values) != call.example.steps:
        raise OtherStepsError(len(values))
    return True


def _held(call: Call, value: Value) -> Value:
    image = call.record.emit("hold()", ops.Hold(), (value,), value.tensor, value.axes)
    return Value(call.result, image.node, ((TIME,), *value.axes), EVERY)


def _widened(call: Call, one: Any, axis: int) -> Any:
    if isinstance(one, Tensor):
        return one.unsqueeze(axis)
    axes = (*one.axes[:axis], (1,), *one.axes[axis:])
    tensor = one.tensor.unsqueeze(axis)
    return call.record.emit(f"{call.name}()", ops.Reshape(features_of(axes)), (one,), tensor, axes, one.when)


def _side_by_side(call: Call, tensors: list[Any], axis: int) -> Value:
    first = next(one for one in tensors if isinstance(one, Value))
    feature = first.axis(axis - call.result.ndim if axis >= len(first.axes) else axis)
    others = [_other_axes(one, axis) for one in tensors if isinstance(one, Value)]
    if any(axes != others[0] for axes in others):
        said = " and ".join(f"{one.layout} {one.features}" for one in tensors if isinstance(one, Value))
        raise Refusal(f"joins {said}", "bring them to the same axes")
    axes = (*first.axes[:axis], (int(call.result.shape[axis]),), *first.axes[axis + 1 :])
    if all(isinstance(one, Value) for one in tensors):
        return call.emit(ops.Concat(feature), tensors, axes)
    return _with_constants(call, tensors, axis, feature, axes)


def _other_axes(value: Value, axis: int) -> Any:
    return value.axes[:axis], value.axes[axis + 1 :]


def _with_constants(call: Call, tensors: list[Any], axis: int, feature: int, axes: Any) -> Value:
    """Constants among them, such as a class token: zeros around the tensor of the network, and then added."""
    values = [(index, one) for index, one in enumerate(tensors) if isinstance(one, Value)]
    if len(values) > 1:
        raise Refusal("joins several tensors of the network with constants", "join one with constants at a time")
    at, value = values[0]
    sizes = [int(one.tensor.shape[axis] if isinstance(one, Value) else one.shape[axis]) for one in tensors]
    padding = [(0, 0)] * len(value.features)
    padding[feature] = (sum(sizes[:at]), sum(sizes[at + 1 :]))
    features = features_of(axes)
    shift = np.zeros(features)
    start = 0
    for size, one in zip(sizes, tensors, strict=True):
        if not isinstance(one, Value):
            shift.swapaxes(0, feature)[start : start + size] = _constant(one, axes, value, features, feature, size)
        start += size
    layers: list[ops.Layer] = [ops.ConstantPad(tuple(padding), 0.0)]
    if shift.any():
        layers.append(ops.Affine(np.ones((1,) * len(features)), shift))
    return call.emit(layers, (value,), axes)


def _constant(one: Tensor, axes: Any, value: Value, features: Any, feature: int, size: int) -> Any:
    """A constant's numbers, the joined axis first; the same for every step and sample."""
    array = one.detach().cpu().double().numpy()
    for index, axis in enumerate(axes):
        if any(not isinstance(atom, int) for atom in axis):
            if not (array == array.take([0], index)).all():
                raise Refusal("joins a constant that differs from step to step or from sample to sample", "use one")
            array = array.take([0], index)
    shape = [*features]
    shape[feature] = size
    return array.reshape(shape).swapaxes(0, feature)
