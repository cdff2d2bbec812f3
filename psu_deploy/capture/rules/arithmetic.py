"""Rules of what works entry by entry on one tensor and a constant, or on several tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from psu_deploy.capture.axes import Axes, broadcast, features_of, is_feature, stretched
from psu_deploy.capture.calls import Call, rule
from psu_deploy.capture.conversion import array
from psu_deploy.capture.steps import added
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops


@rule("add", "__add__", "__radd__", "__iadd__")
def add(call: Call, x: Any, y: Any, *, alpha: float = 1) -> Value:
    """x + alpha y."""
    _plain(alpha)
    if isinstance(x, Value) and isinstance(y, Value):
        summed = added(x, y)
        return Value(call.result, x.node, x.axes, summed) if summed else join(call, ops.Add(), x, y)
    value, constant = _split(x, y)
    return affine(call, value, 1.0, constant)


@rule("sub", "subtract", "__sub__", "__isub__")
def subtract(call: Call, x: Any, y: Any, *, alpha: float = 1) -> Value:
    """x - alpha y."""
    _plain(alpha)
    if isinstance(x, Value) and isinstance(y, Value):
        return join(call, ops.Subtract(), x, y)
    value, constant = _split(x, y)
    return affine(call, value, 1.0, -constant) if value is x else affine(call, value, -1.0, constant)


@rule("rsub", "__rsub__")
def reverse_subtract(call: Call, x: Any, y: Any, *, alpha: float = 1) -> Value:
    """y - x."""
    return subtract(call, y, x, alpha=alpha)


@rule("neg", "negative", "__neg__")
def negative(call: Call, x: Value) -> Value:
    """-x."""
    return affine(call, x, -1.0, 0.0)


@rule("mul", "multiply", "__mul__", "__rmul__", "__imul__")
def multiply(call: Call, x: Any, y: Any) -> Value:
    """x * y."""
    if isinstance(x, Value) and isinstance(y, Value):
        return join(call, ops.Multiply(), x, y)
    value, constant = _split(x, y)
    return affine(call, value, constant, 0.0)


@rule("div", "divide", "true_divide", "__truediv__", "__itruediv__")
def divide(call: Call, x: Any, y: Any, *, rounding_mode: str | None = None) -> Value:
    """x / y."""
    if rounding_mode is not None:
        raise Refusal(f"rounding_mode={rounding_mode!r} rounds to whole numbers", "divide without it")
    if isinstance(x, Value) and isinstance(y, Value):
        return join(call, ops.Divide(), x, y)
    if isinstance(x, Value):
        value, constant = _split(x, y)
        if np.any(np.asarray(constant) == 0):
            raise Refusal("divides by zero", "divide by other numbers")
        if _is_steps(call, value, constant):
            return mean_of(call, value)
        return affine(call, value, 1.0 / constant, 0.0)
    value, constant = _split(x, y)
    inverse = call.record.emit("reciprocal()", ops.Activation("reciprocal"), (value,), 1 / value.tensor, value.axes)
    return affine(call, inverse, constant, 0.0)


@rule("__rdiv__", "__rtruediv__")
def reverse_divide(call: Call, x: Any, y: Any) -> Value:
    """y / x."""
    return divide(call, y, x)


def _is_steps(call: Call, value: Value, constant: Any) -> bool:
    """Whether a sum over time is divided by the number of steps."""
    layer = call.record.layer_of(value)
    return isinstance(layer, ops.Readout) and layer.kind == "sum" and bool(np.all(constant == call.example.steps))


def mean_of(call: Call, total: Value) -> Value:
    """The mean over time whose sum has been taken already."""
    source = call.record.source_of(total)
    return call.emit(ops.Readout("mean"), (source,), total.axes, total.when)


def _plain(alpha: float) -> None:
    if alpha != 1:
        raise Refusal(f"alpha={alpha}", "scale the second tensor before")


def _split(x: Any, y: Any) -> tuple[Value, Any]:
    """The tensor of the network, and the constant as numpy float64."""
    value, constant = (x, y) if isinstance(x, Value) else (y, x)
    assert isinstance(value, Value)
    if isinstance(constant, Tensor):
        return value, array(constant)
    if isinstance(constant, bool) or not isinstance(constant, int | float | np.number | np.ndarray):
        raise Refusal(f"combines a tensor with {type(constant).__name__}", "use numbers or tensors")
    return value, np.asarray(constant, np.float64)


def affine(call: Call, value: Value, scale: Any, shift: Any) -> Value:
    """scale * x + shift, of numbers or of arrays that fit the features."""
    axes = _axes_of_result(value, call.result)
    number = np.ndim(scale) == 0 and np.ndim(shift) == 0
    if number and not value.features:
        raise Refusal("has no features", "keep at least one feature axis")
    if number and float(scale) == 1.0 and float(shift) == 0.0:
        return call.same(value)
    if number:
        channels = value.features[0]
        layer: ops.Layer = ops.ChannelAffine(np.full(channels, float(scale)), np.full(channels, float(shift)))
        return call.emit(layer, (value,), value.axes)
    layer = ops.Affine(_for_features(scale, axes), _for_features(shift, axes))
    if axes == value.axes and np.all(layer.scale == 1.0) and np.all(layer.shift == 0.0):
        return call.same(value)
    wide = [ops.Expand(features_of(axes))] if features_of(axes) != value.features else []
    return call.emit([*_stretch(value, axes), *wide, layer], (value,), axes)


def _axes_of_result(value: Value, result: Tensor) -> Axes:
    """Axes after a constant of other sizes has been joined: a feature axis of size 1 may have grown."""
    new = result.ndim - len(value.axes)
    padded = ((1,),) * new + value.axes
    return tuple(
        axis if not is_feature(axis) or axis != (1,) else (size,)
        for axis, size in zip(padded, result.shape, strict=True)
    )


def _for_features(constant: Any, axes: Axes) -> Any:
    """A constant of torch's shape as one of the features' shape; the same for every step and sample."""
    array = np.asarray(constant, np.float64)
    if array.ndim == 0:
        return array.reshape((1,) * max(1, len(features_of(axes))))
    array = array.reshape((1,) * (len(axes) - array.ndim) + array.shape)
    shape: list[int] = []
    for index, axis in enumerate(axes):
        if is_feature(axis):
            shape.extend(axis if array.shape[index] != 1 else (1,) * len(axis))  # type: ignore[arg-type]
            continue
        first = array.take([0], index)
        if not np.array_equal(np.broadcast_to(first, array.shape), array):
            raise Refusal("joins a constant that differs from step to step or from sample to sample", "use one for all")
        array = first
        shape.extend(1 for atom in axis if isinstance(atom, int))
    return array.reshape(shape)


def join(call: Call, layer: ops.Layer, *values: Value) -> Value:
    """Tensors of the network, entry by entry, broadcast as torch does."""
    axes = broadcast([value.axes for value in values])
    if axes is None:
        said = " and ".join(f"{value.layout} {value.features}" for value in values)
        raise Refusal(f"joins {said}", "bring them to the same axes")
    inputs = [_stretched(call, value, axes) for value in values]
    return call.emit(layer, inputs, axes)


def _stretch(value: Value, axes: Axes) -> list[ops.Layer]:
    """Ones among the features, where others have an axis that this one has not."""
    wanted = stretched(value.axes, axes)
    wide = len(wanted) - len(value.features)
    fits = wanted == (1,) * wide + value.features
    return [] if fits else [ops.Reshape(wanted)]


def _stretched(call: Call, value: Value, axes: Axes) -> Value:
    layers = _stretch(value, axes)
    if not layers:
        return value
    new = len(axes) - len(value.axes)
    own = tuple(
        (1,) * sum(isinstance(atom, int) for atom in axis) if before == (1,) else before
        for before, axis in zip(((1,),) * new + value.axes, axes, strict=True)
    )
    tensor = value.tensor.reshape((1,) * new + tuple(value.tensor.shape))
    return call.record.emit("reshape()", layers, (value,), tensor, own)


@rule("masked_fill")
def masked_fill(call: Call, x: Value, mask: Any, value: Any) -> Value:
    """value where a constant mask says so."""
    if isinstance(mask, Value):
        raise Refusal("decides by a comparison which numbers to keep", "leave decisions to neurons")
    filled, where = float(value), array(mask)
    if not np.isfinite(filled):
        raise Refusal(f"fills in {filled}", "use a finite number")
    return affine(call, x, 1.0 - where, filled * where)


def dropout(call: Call, x: Value, p: float = 0.5, training: bool = True, *args: Any, **kwargs: Any) -> Value:
    """Nothing in eval mode."""
    if kwargs.get("train", training) and p:
        raise Refusal("changes the numbers in eval mode", "use nn.Dropout, or pass training=self.training")
    return same_numbers(call, x)


def cast(call: Call, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Another type that holds the same numbers: a wider one, or any for spikes."""
    before, after = x.tensor.dtype, call.result.dtype
    wider = torch.promote_types(before, after) == after
    if not wider and not isinstance(call.record.layer_of(x), ops.Neuron):
        raise Refusal(f"rounds {before} to {after}", "leave the numbers in the type of the network")
    return same_numbers(call, x)


def same_numbers(call: Call, x: Value, *args: Any, **kwargs: Any) -> Value:
    """A copy."""
    if call.result.shape != x.tensor.shape or not torch.equal(call.result.to(x.tensor), x.tensor):
        raise Refusal("changes the numbers", "leave them as they are")
    return call.same(x)


rule("contiguous", "clone", "detach", "data", "cpu", "cuda", "positive", "__pos__", "real")(same_numbers)
rule("float", "double", "half", "bfloat16", "to", "type_as", "int", "long", "bool", "type")(cast)
rule("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")(
    dropout
)
