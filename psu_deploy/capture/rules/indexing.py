"""Rules of indices: parts of the features, single steps, the last step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.capture.axes import BATCH, TIME, is_feature
from psu_deploy.capture.calls import Call, rule
from psu_deploy.capture.rules import over_time
from psu_deploy.capture.values import END, EVERY, Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops


@rule("__getitem__", "getitem")
def index(call: Call, value: Value, indices: Any) -> Value:
    """x[...]: fixed places of the features, every sample, a step."""
    given = list(indices) if isinstance(indices, tuple) else [indices]
    for one in _spread(given, len(value.axes)):
        value = _one(call, value, one)
    if tuple(value.tensor.shape) != tuple(call.result.shape):
        raise Refusal("picks part of a tensor in a way that is not understood", "use one index or slice per axis")
    return call.same(value)


def _spread(indices: list[Any], axes: int) -> list[tuple[int, Any]]:
    """(axis of the tensor as it then is, index), the last axis first, so that those before keep their places."""
    wanted = sum(one is not None and one is not Ellipsis for one in indices)
    if Ellipsis in [one for one in indices if not isinstance(one, Tensor | np.ndarray)]:
        at = next(i for i, one in enumerate(indices) if one is Ellipsis)
        indices = [*indices[:at], *[slice(None)] * (axes - wanted), *indices[at + 1 :]]
    found, axis = [], 0
    for one in indices:
        found.append((axis, one))
        axis += one is not None
    if sum(isinstance(one, Tensor | np.ndarray | list) for _, one in found) > 1:
        raise Refusal("is indexed by several tensors at once", "index one axis after the other")
    return found[::-1]


def _one(call: Call, value: Value, found: tuple[int, Any]) -> Value:
    axis, one = found
    if one is None:
        axes = (*value.axes[:axis], (1,), *value.axes[axis:])
        tensor = value.tensor.unsqueeze(axis)
        return _part(call, value, [ops.Reshape(_features(axes))], tensor, axes)
    if isinstance(one, slice) and one == slice(None):
        return value
    atoms = value.axes[axis]
    if atoms == (TIME,):
        return _step(call, value, axis, one)
    if atoms == (BATCH,) or not is_feature(atoms) or len(atoms) != 1:
        raise Refusal(f"picks part of axis {axis} of {value.layout}", "every sample and step must go the same way")
    return _places(call, value, axis, one)


def _step(call: Call, value: Value, axis: int, one: Any) -> Value:
    if isinstance(one, slice):
        return over_time.sliced(call, value, axis, one, value.tensor[(slice(None),) * axis + (one,)])
    if not isinstance(one, int) or isinstance(one, bool) or value.span != (0, 0):
        raise Refusal("picks several steps of a sequence", "x[-1], the last step, or x[t] in a loop over all steps")
    axes = (*value.axes[:axis], *value.axes[axis + 1 :])
    tensor = value.tensor.select(axis, one)
    if one == -1:
        return call.record.emit(f"{call.name.strip('_')}()", ops.Readout("last"), (value,), tensor, axes, END)
    step = one % call.example.steps
    return Value(tensor, value.node, axes, range(step, step + 1))


def _places(call: Call, value: Value, axis: int, one: Any) -> Value:
    size = value.axes[axis][0]
    assert isinstance(size, int)
    feature = value.axis(axis)
    if isinstance(one, int) and not isinstance(one, bool):
        axes = (*value.axes[:axis], *value.axes[axis + 1 :])
        layers: list[ops.Layer] = [ops.Take(feature, (one % size,))]
        if _features(axes):
            layers.append(ops.Reshape(_features(axes)))
        else:
            raise Refusal("leaves no features", "keep one: x[..., i : i + 1]")
        return _part(call, value, layers, value.tensor.select(axis, one), axes)
    places = torch.arange(size)[one if not isinstance(one, Tensor) else one.cpu()]
    if places.ndim != 1:
        raise Refusal("is indexed by a tensor of several axes", "index by a list of places")
    tensor = value.tensor.index_select(axis, places.to(value.tensor.device))
    axes = (*value.axes[:axis], (len(places),), *value.axes[axis + 1 :])
    if not len(places):
        raise Refusal("picks nothing", "keep at least one feature")
    if torch.equal(places, torch.arange(size)):
        return Value(tensor, value.node, axes, value.when)
    return _part(call, value, [ops.Take(feature, tuple(places.tolist()))], tensor, axes)


def _part(call: Call, value: Value, layers: list[ops.Layer], tensor: Tensor, axes: Any) -> Value:
    return call.record.emit(f"{call.name.strip('_')}()", layers, (value,), tensor, axes, value.when)


def _features(axes: Any) -> tuple[int, ...]:
    return tuple(atom for axis in axes for atom in axis if isinstance(atom, int))


@rule("select")
def select(call: Call, value: Value, dim: int, index_: int) -> Value:
    """x.select(dim, index)."""
    return _one(call, value, (value.index(dim), index_))


@rule("narrow")
def narrow(call: Call, value: Value, dim: int, start: int, length: int) -> Value:
    """length places of an axis."""
    return _one(call, value, (value.index(dim), slice(start, start + length)))


@rule("index_select")
def index_select(call: Call, value: Value, dim: int, index_: Tensor) -> Value:
    """Fixed places of an axis."""
    return _one(call, value, (value.index(dim), index_))


@rule("unbind", "__iter__")
def unbind(call: Call, value: Value, dim: int = 0) -> list[Value]:
    """Every step, or every place of a feature axis, on its own."""
    axis = value.index(dim)
    if value.axes[axis] == (TIME,) and value.when == EVERY:
        axes = (*value.axes[:axis], *value.axes[axis + 1 :])
        return [Value(one, value.node, axes, range(t, t + 1)) for t, one in enumerate(call.result)]
    return [_one(call, value, (axis, place)) for place in range(len(call.result))]


@rule("chunk", "split", "tensor_split", "split_with_sizes")
def chunk(call: Call, value: Value, *args: Any, dim: int = 0, **kwargs: Any) -> list[Value]:
    """Parts of a feature axis, as long as torch made them."""
    axis = value.index(args[1] if len(args) > 1 else dim)
    start, parts = 0, []
    for part in call.result:
        parts.append(_one(call, value, (axis, slice(start, start + part.shape[axis]))))
        start += part.shape[axis]
    return parts
