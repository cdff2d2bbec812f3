"""Functions and tensor methods between the modules of a forward -> layers of the state machine."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from psu_deploy.capture.values import Example, Layout, Value
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops


@dataclass(frozen=True)
class Call:
    """One traced call that has at least one tensor of the network among its arguments.

    Args:
        target: the function, or the name of the tensor method.
        args: positional arguments, tensors of the network as `Value`.
        kwargs: keyword arguments.
        result: what it returned on the example.
        example: sizes of the example.
        literals: positional arguments that stand in the code as they are, not computed from shapes.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any
    example: Example
    literals: tuple[Any, ...] = ()

    @property
    def values(self) -> list[Value]:
        """The tensors of the network among the arguments, those inside lists too."""
        return find_values((self.args, dict(self.kwargs)))


def find_values(arguments: Any) -> list[Value]:
    """The tensors of the network among arguments, in order."""
    found: list[Value] = []
    fx.node.map_aggregate(arguments, lambda a: found.append(a) if isinstance(a, Value) else None)
    return found


@dataclass(frozen=True)
class Converted:
    """What a call became.

    Attributes:
        layer: None where the numbers stay what they are.
        inputs: what the layer reads.
        layout: of the result.
    """

    layer: ops.Layer | None
    inputs: tuple[Value, ...]
    layout: Layout


def convert_call(call: Call) -> Converted:
    """Find the rule for a call.

    Raises:
        Refusal: if there is none, or the rule does not apply.
    """
    for targets, rule in _RULES:
        if call.target in targets:
            return rule(call)
    raise Refusal("no serial form known", "use modules, +, reshapes, x.mean(0)")


def describe(target: Any) -> str:
    """How a person would name a traced function or method."""
    return f"Tensor.{target}" if isinstance(target, str) else getattr(target, "__name__", str(target))


def short_name(target: Any) -> str:
    """Name of the layer a call becomes; the brackets tell it from a module."""
    return f"{target if isinstance(target, str) else getattr(target, '__name__', 'call')}()"


def reshape(value: Value, result: Tensor, example: Example) -> Converted:
    """The same numbers in the same order with other axes: nothing at all, or Flatten.

    Raises:
        Refusal: if time, batch and features are mixed, or features get any other shape than one axis.
    """
    layout = example.layout_of(result, value.layout)
    if layout is None:
        before, after = tuple(value.tensor.shape), tuple(result.shape)
        reason = f"turns {before} into {after}, which mixes time, batch and features"
        raise Refusal(reason, "keep (T, B, ...) or (T*B, ...) in front")
    features = tuple(result.shape[layout.leading :])
    if features == value.features:
        return Converted(None, (value,), layout)
    if len(features) == 1:
        return Converted(ops.Flatten(), (value,), layout)
    raise Refusal(f"reshapes features {value.features} to {features}", "flatten them to one axis")


def _reshape(call: Call) -> Converted:
    return reshape(call.values[0], call.result, call.example)


def _add(call: Call) -> Converted:
    if len(call.values) == 1:
        return _shift(call, 1.0)
    return _elementwise(call, ops.Add(), "adds")


def _elementwise(call: Call, layer: ops.Layer, verb: str) -> Converted:
    first, second = call.values
    if call.kwargs or first.layout is not second.layout or first.features != second.features:
        reason = f"{verb} {first.layout.value} {first.features} and {second.layout.value} {second.features}"
        raise Refusal(reason, "use two tensors of one shape, without further arguments")
    return Converted(layer, (first, second), first.layout)


def _activate(kind: str) -> Callable[[Call], Converted]:
    def rule(call: Call) -> Converted:
        (value,) = call.values
        return Converted(ops.Activation(kind), (value,), value.layout)

    return rule


def _subtract(call: Call) -> Converted:
    if len(call.values) != 1:
        raise Refusal("subtracts tensors", "fold the sign into the layer before and add")
    number = _number(call)
    return _affine(call, 1.0, -number) if isinstance(call.args[0], Value) else _affine(call, -1.0, number)


def _shift(call: Call, sign: float) -> Converted:
    return _affine(call, 1.0, sign * _number(call))


def _multiply(call: Call) -> Converted:
    if len(call.values) == 2:
        return _elementwise(call, ops.Multiply(), "multiplies")
    return _affine(call, _number(call), 0.0)


def _divide(call: Call) -> Converted:
    number = _number(call)
    if not isinstance(call.args[0], Value) or number == 0:
        raise Refusal("divides by a tensor or by zero", "divide by a number")
    return _affine(call, 1.0 / number, 0.0)


def _number(call: Call) -> float:
    """The one other argument, a plain number."""
    others = [a for a in call.args if not isinstance(a, Value)]
    if len(others) != 1 or call.kwargs or not isinstance(others[0], int | float):
        raise Refusal("combines a tensor with something that is not a plain number", "use a number or a layer")
    if not any(others[0] is literal for literal in call.literals):
        raise Refusal("takes a number from the shape of x into the arithmetic", "use x.mean(0) for a mean")
    return float(others[0])


def _affine(call: Call, scale: float, shift: float) -> Converted:
    (value,) = call.values
    if not value.features:
        raise Refusal("has no features", "keep at least one feature axis")
    channels = value.features[0]
    return Converted(ops.ChannelAffine(np.full(channels, scale), np.full(channels, shift)), (value,), value.layout)


def _same(call: Call) -> Converted:
    value = call.values[0]
    if call.result.shape != value.tensor.shape or not torch.equal(call.result.to(value.tensor), value.tensor):
        raise Refusal("changes the numbers in eval mode", "use nn.Dropout, or pass training=self.training")
    return Converted(None, (value,), value.layout)


def _reduce(kind: str) -> Callable[[Call], Converted]:
    def rule(call: Call) -> Converted:
        value = call.values[0]
        axis = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", call.kwargs.get("axis"))
        axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
        over_time = axis in (0, -value.tensor.ndim) and value.layout is Layout.SEQUENCE
        if not over_time or call.result.shape != value.tensor.shape[1:]:
            raise Refusal(f"reduces axis {axis} of {value.layout.value}", f"use x.{kind}(0), over time, only")
        return Converted(ops.Readout(kind), (value,), Layout.STEP)

    return rule


def _index(call: Call) -> Converted:
    value, index = call.values[0], call.args[1]
    if value.layout is not Layout.SEQUENCE or not isinstance(index, int) or index != -1:
        raise Refusal("picks part of a tensor", "only x[-1], the last step, is supported")
    return Converted(ops.Readout("last"), (value,), Layout.STEP)


_RULES: tuple[tuple[tuple[Any, ...], Callable[[Call], Converted]], ...] = (
    ((operator.add, operator.iadd, torch.add, "add", "add_"), _add),
    ((operator.sub, operator.isub, torch.sub, "sub", "sub_"), _subtract),
    ((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _multiply),
    ((operator.truediv, operator.itruediv, torch.div, "div", "div_"), _divide),
    ((torch.flatten, torch.reshape, torch.unflatten, "flatten", "reshape", "view"), _reshape),
    (("unflatten", "view_as", "reshape_as"), _reshape),
    ((torch.relu, F.relu, "relu"), _activate("relu")),
    ((torch.sigmoid, F.sigmoid, "sigmoid"), _activate("sigmoid")),
    ((F.dropout, F.dropout1d, F.dropout2d, torch.clone), _same),
    (("contiguous", "clone", "detach", "float", "double", "to"), _same),
    ((torch.mean, "mean"), _reduce("mean")),
    ((torch.sum, "sum"), _reduce("sum")),
    ((operator.getitem,), _index),
)
