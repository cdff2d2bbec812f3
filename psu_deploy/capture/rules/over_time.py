"""Rules of what works along time: shifts, windows of the last steps, convolutions, and loops that write rows.

The time axis of a value may begin before the first step, or end before the last: its `span` (first, last) says so.
It covers the steps first .. T + last; what lies before the first step is silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from psu_deploy.capture.axes import BATCH, TIME, features_of
from psu_deploy.capture.calls import Call
from psu_deploy.capture.conversion import array
from psu_deploy.capture.values import END, EVERY, MOST_STEPS, MoreStepsError, Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.schedule import INPUT

KNOW_SPANS = frozenset(
    ("__getitem__", "getitem", "narrow", "cat", "concat", "concatenate", "pad", "conv1d", "mean", "sum")
)
"""Rules that look at spans; any other takes whole sequences only."""

_MOVES = frozenset(("permute", "transpose", "movedim", "swapaxes", "contiguous", "clone", "detach"))


def check_spans(call: Call) -> None:
    """Raise `Refusal` if a rule that takes whole sequences gets a part of one."""
    for value in call.values:
        if value.span != (0, 0) and call.name not in KNOW_SPANS | _MOVES:
            raise Refusal("works on some of the steps of a sequence", "cut or fill it to all steps first")


def sliced(call: Call, value: Value, axis: int, part: slice, tensor: Tensor) -> Value:
    """x[a:b] over time."""
    first, last = value.span
    length = value.tensor.shape[axis]
    start, stop, step = part.indices(length)
    _check_bounds(call, part, length)
    if step == 1 and stop == start + 1 and value.span == (0, 0) and start >= 0 and part.start not in (None, -1):
        axes = (*value.axes[:axis], (1,), *value.axes[axis + 1 :])
        one = Value(tensor, value.node, (*value.axes[:axis], *value.axes[axis + 1 :]), range(start, start + 1))
        return call.record.emit("getitem()", ops.Reshape(features_of(axes)), (one,), tensor, axes, one.when)
    if step != 1 or stop <= start:
        raise Refusal("picks several steps of a sequence", "x[-1], x[-k:].mean(0), or a shift by some steps")
    return settled(call, replace(value, tensor=tensor, span=(first + start, last - (length - stop))))


def _check_bounds(call: Call, part: slice, length: int) -> None:
    """x[-10:] and x[:10] of fewer steps say nothing of more; nor does x[-10:] of ten."""
    bound = max((abs(int(one)) for one in (part.start, part.stop) if one is not None), default=0)
    most = call.example.most
    all_of_it = bound == length and part.start is not None and int(part.start) < 0  # x[-k:] of k steps
    if (bound <= length and not all_of_it) or call.example.fixed or (most is not None and bound >= most):
        return
    if bound > MOST_STEPS:
        raise Refusal(f"takes {bound} steps out of a sequence", f"take no more than {MOST_STEPS}")
    raise MoreStepsError(bound + 1)


def settled(call: Call, value: Value) -> Value:
    """A value whose every entry is some steps late is behind a delay line."""
    first, last = value.span
    if first != last or first >= 0:
        return value
    return call.record.emit(
        f"{call.name.strip('_')}()", ops.Delay(-first), (replace(value, span=(0, 0)),), value.tensor, value.axes, EVERY
    )


def padded(call: Call, value: Value, before: int, after: int, result: Tensor) -> Value:
    """Silence before the first step, and behind the last."""
    first, last = value.span
    if (before and first > 0) or (after and last < 0):
        raise Refusal("puts zeros where steps were left out", "fill before the first step only")
    return settled(call, replace(value, tensor=result, span=(first - before, last + after)))


def joined(call: Call, tensors: Sequence[Any], axis: int) -> Value | None:
    """cat([zeros, x], time); None if the axis is not time."""
    values = [one for one in tensors if isinstance(one, Value)]
    if len(values) != 1 or axis >= len(values[0].axes) or values[0].axes[axis] != (TIME,):
        return None
    if any(isinstance(one, Tensor) and bool(one.count_nonzero()) for one in tensors):
        raise Refusal("puts constants before or behind a sequence", "put zeros there")
    at = next(index for index, one in enumerate(tensors) if isinstance(one, Value))
    before, after = (sum(int(one.shape[axis]) for one in part) for part in (tensors[:at], tensors[at + 1 :]))
    return padded(call, values[0], before, after, call.result)


def mean_of_last(call: Call, value: Value, kind: str, time: int, keepdim: bool, result: Tensor) -> Value:
    """x[-k:].mean(0)."""
    first, last = value.span
    steps = call.example.steps - first
    if last or first < 0 or keepdim:
        raise Refusal(f"takes the {kind} of some of the steps", "of all steps, or of the last ones: x[-k:].mean(0)")
    axes = (*value.axes[:time], *value.axes[time + 1 :])
    layers: list[ops.Layer] = [ops.MeanOfLast(steps)]
    if kind != "mean":
        raise Refusal(f"takes the {kind} of some of the steps", "x[-k:].mean(0)")
    return call.emit(layers, (replace(value, span=(0, 0)),), axes, END, result)


def is_along_time(value: Value) -> bool:
    """Whether it is (B, C, T): what a convolution takes for its length is time."""
    return value.axes[:1] == ((BATCH,),) and value.axes[2:] == ((TIME,),) and len(value.features) == 1


def convolved(call: Call, value: Value, conv: Any, result: Tensor) -> Value:
    """nn.Conv1d along time: every result looks at the newest input of its window, and at those before."""
    weight, span = array(conv.weight), conv.dilation[0] * (conv.weight.shape[2] - 1)
    if conv.stride[0] != 1 or conv.padding_mode != "zeros":
        raise Refusal("skips steps, or fills them with anything but zeros", "stride=1, padding_mode='zeros'")
    before, after = _padding(conv, span)
    first, last = value.span[0] - before + span, value.span[1] + after
    wide = np.zeros((*weight.shape[:2], span + 1))
    wide[..., :: conv.dilation[0]] = weight
    ahead = first if first == last and first > 0 else 0
    if first - ahead:
        raise Refusal("loses the first steps, or is moved against them", "pad by (kernel_size - 1) * dilation in front")
    layer = ops.TimeConv(wide, None if conv.bias is None else array(conv.bias), conv.groups, ahead)
    if ahead and value.node != INPUT:
        raise Refusal(f"looks {ahead} step(s) ahead at the result of another layer", "look ahead at the input only")
    axes = (value.axes[0], (int(weight.shape[0]),), value.axes[2])
    whole = result[..., : call.example.steps]
    made = call.record.emit(call.name, layer, (replace(value, span=(0, 0)),), whole, axes, EVERY)
    return replace(made, tensor=result, span=(0, 0 if ahead else last))


def _padding(conv: Any, span: int) -> tuple[int, int]:
    if conv.padding == "same":
        return span // 2, span - span // 2
    return (0, 0) if conv.padding == "valid" else (int(conv.padding[0]),) * 2


def functional_conv(
    x: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """F.conv1d's arguments as a module has them."""
    conv = nn.Module()
    one = [n if isinstance(n, tuple | list | str) else (n,) for n in (stride, padding, dilation)]
    fields = {"stride": one[0], "padding": one[1], "dilation": one[2], "groups": groups, "padding_mode": "zeros"}
    vars(conv).update(fields, weight=weight, bias=bias)
    return conv


class Rows:
    """Sequences that a loop writes row by row: `y[t] = f(x[t])`."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Value]] = {}
        self._kept: list[Tensor] = []

    def write(self, target: Tensor, index: Any, value: Any, steps: int) -> Value | None:
        """Note a row; the whole sequence once all are there.

        Raises:
            Refusal: if anything else is written than the value of step t into row t, in order.
        """
        rows = self._rows.setdefault(id(target), [])
        self._kept.append(target)
        single = range(len(rows), len(rows) + 1)
        if not isinstance(value, Value) or index != len(rows) or value.when != single or len(target) != steps:
            raise Refusal("is changed in place", "stack the results of every step: torch.stack(list)")
        rows.append(value)
        if len({(row.node, row.axes) for row in rows}) > 1 or torch.Size(target.shape[1:]) != value.tensor.shape:
            raise Refusal("joins steps that were not computed alike", "do the same at every step")
        return Value(target, value.node, ((TIME,), *value.axes), EVERY) if len(rows) == steps else None
