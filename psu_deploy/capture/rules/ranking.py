"""Rules of what orders numbers by size: the largest over an axis of the features, and where they are.

Networks are given the places of the largest numbers beside the numbers, and mostly leave them alone. So they become a
layer only when one is read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from psu_deploy.capture.axes import Axes, reduced
from psu_deploy.capture.calls import Call, rule
from psu_deploy.capture.patches import unseen
from psu_deploy.capture.source import source_line
from psu_deploy.capture.values import UNKNOWN, Unread, Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops


@rule("argmax", "argmin")
def place(call: Call, value: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    """The place of the largest feature, or of the smallest."""
    if dim is None:
        raise Refusal("looks for one place among all samples", "give dim=")
    return _place(call, value, call.name, dim, keepdim, call.result)


def place_of_best(call: Call, value: Value, dim: Any, keepdim: bool) -> Unread:
    """What stands beside x.max(dim).values; of a maximum over features it may be read."""
    places = call.result[1]
    return _unread(
        call, value, value.axes[: places.ndim], lambda: _place(call, value, f"arg{call.name}", dim, keepdim, places)
    )


def _place(call: Call, value: Value, name: str, dim: int, keepdim: bool, places: Tensor) -> Value:
    layers: list[ops.Layer] = [ops.Activation("neg")] if name == "argmin" else []
    layers.append(ops.ArgMax(value.axis(dim), keepdim))
    axes = reduced(value.axes, [value.index(dim)], keepdim)
    return call.record.emit(f"{name}()", layers, (value,), places.to(value.tensor), axes)


@rule("topk")
def topk(call: Call, value: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> list[Value]:  # noqa: A002
    """The k largest, that one first, or the k smallest."""
    if not sorted:
        raise Refusal("gives the largest in no order", "sorted=True")
    return _ranked(call, value, k, dim, largest)


@rule("sort")
def sort(call: Call, value: Value, dim: int = -1, descending: bool = False, stable: bool = False) -> list[Value]:
    """All of an axis."""
    return _ranked(call, value, value.tensor.shape[dim], dim, descending)


@rule("argsort")
def argsort(call: Call, value: Value, dim: int = -1, descending: bool = False, stable: bool = False) -> Value:
    """The places of all of an axis."""
    return _places(call, value, value.tensor.shape[dim], dim, descending, call.result)


@rule("kthvalue")
def kthvalue(call: Call, value: Value, k: int, dim: int = -1, keepdim: bool = False) -> list[Value]:
    """The largest of the k smallest."""
    layers = [ops.TopK(value.axis(dim), k, largest=False), ops.Reduce("max", (value.axis(dim),), keepdim)]
    axes = reduced(value.axes, [value.index(dim)], keepdim)
    made = call.emit(layers, (value,), axes, result=call.result[0])
    return [made, unread_place(call, value)]


@rule("median")
def median(call: Call, value: Value, dim: int | None = None, keepdim: bool = False) -> list[Value]:
    """The lower of the two in the middle."""
    if dim is None:
        raise Refusal("is the median of all samples", "give dim=, over features")
    return kthvalue(call, value, (value.tensor.shape[dim] + 1) // 2, dim, keepdim)


def unread_place(call: Call, value: Value) -> Unread:
    """What nothing may read."""

    def refused() -> Value:
        raise Refusal("reads a place that no layer gives", "use the values, or the places of max, topk or sort")

    return _unread(call, value, value.axes[: call.result[1].ndim], refused)


def _ranked(call: Call, value: Value, count: int, dim: int, largest: bool) -> list[Value]:
    values, places = call.result
    axes = _with(value, dim, count)
    made = call.emit(ops.TopK(value.axis(dim), count, largest), (value,), axes, result=values)
    return [made, _unread(call, value, axes, lambda: _places(call, value, count, dim, largest, places))]


def _places(call: Call, value: Value, count: int, dim: int, largest: bool, places: Tensor) -> Value:
    layer, axes = ops.ArgTopK(value.axis(dim), count, largest), _with(value, dim, count)
    with unseen():
        ours = value.tensor.sort(dim=dim, descending=largest, stable=True).indices.narrow(dim, 0, count)
        if not torch.equal(ours, places):
            raise Refusal(
                "names the places of equal numbers, which torch does in any order",
                "x.sort(dim, descending=True, stable=True).indices names the first of them first",
            )
    return call.record.emit("argsort()", layer, (value,), places.to(value.tensor), axes)


def _with(value: Value, dim: int, count: int) -> Axes:
    index = value.index(dim)
    return (*value.axes[:index], (count,), *value.axes[index + 1 :])


def _unread(call: Call, value: Value, axes: Axes, write: Any) -> Unread:
    return Unread(call.result[1], UNKNOWN, axes, value.when, name=call.name, where=source_line(), write=write)
