"""Rules of matrix products: by a constant, and of two tensors of the network."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from psu_deploy.capture.axes import Axes, broadcast, features_of, is_feature
from psu_deploy.capture.calls import Call, rule
from psu_deploy.capture.conversion import array
from psu_deploy.capture.values import Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops


@rule("matmul", "__matmul__", "bmm", "mm")
def matmul(call: Call, x: Any, y: Any) -> Value:
    """x @ y."""
    if isinstance(x, Value) and isinstance(y, Value):
        return _of_two(call, x, y)
    return _by_constant(call, x, y) if isinstance(x, Value) else _of_constant(call, x, y)


@rule("__rmatmul__")
def reverse_matmul(call: Call, x: Any, y: Any) -> Value:
    """y @ x."""
    return matmul(call, y, x)


def _of_two(call: Call, x: Value, y: Value) -> Value:
    if min(len(x.axes), len(y.axes)) < 2:
        raise Refusal("multiplies a matrix by a vector", "give the vector an axis of size 1")
    if not all(_is_matrix(value) for value in (x, y)):
        raise Refusal(f"multiplies {x.layout} by {y.layout}: sums over steps or samples", "sum over features only")
    lead = broadcast([x.axes[:-2], y.axes[:-2]])
    if lead is None:
        raise Refusal(f"multiplies {x.layout} by {y.layout}", "bring them to the same axes")
    axes = (*lead, x.axes[-2], y.axes[-1])
    inputs = [_with_lead(call, value, lead) for value in (x, y)]
    return call.emit(ops.MatMul(), inputs, axes)


def _is_matrix(value: Value) -> bool:
    return all(is_feature(axis) and len(axis) == 1 for axis in value.axes[-2:])


def _with_lead(call: Call, value: Value, lead: Axes) -> Value:
    """Ones among the features in front, where the other has an axis that this one has not."""
    wide = ((1,),) * (len(lead) + 2 - len(value.axes)) + value.axes
    own = tuple(
        (1,) * len(features_of((to,))) if axis == (1,) else axis for axis, to in zip(wide[:-2], lead, strict=True)
    )
    axes = (*own, *value.axes[-2:])
    if features_of(axes) == value.features:
        return value
    tensor = value.tensor.reshape((1,) * (len(axes) - value.tensor.ndim) + tuple(value.tensor.shape))
    return call.record.emit("reshape()", ops.Reshape(features_of(axes)), (value,), tensor, axes)


def _by_constant(call: Call, x: Value, matrix: Tensor) -> Value:
    if matrix.ndim != 2 or not is_feature(x.axes[-1]):
        raise Refusal(f"multiplies {x.layout} by a constant of shape {tuple(matrix.shape)}", "use a matrix")
    axes = (*x.axes[:-1], (int(matrix.shape[1]),))
    return call.emit(ops.Linear(array(matrix.T)), (x,), axes)


def _of_constant(call: Call, matrix: Tensor, x: Value) -> Value:
    if matrix.ndim != 2 or len(x.axes) < 2 or not is_feature(x.axes[-2]):
        raise Refusal(f"multiplies a constant of shape {tuple(matrix.shape)} by {x.layout}", "use a matrix")
    axes = (*x.axes[:-2], (int(matrix.shape[0]),), x.axes[-1])
    return call.emit(ops.Project(array(matrix), x.axis(-2)), (x,), axes)
