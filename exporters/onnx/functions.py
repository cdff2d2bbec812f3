"""Pointwise functions, softmax and what is made of sines -> ONNX nodes.

What ONNX has no operator for, or has one in a later opset, is written in simpler ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi, sqrt
from typing import Any

import onnx_ir as ir

from psu_deploy.exporters.onnx.scope import Scope
from psu_deploy.machine import ops


class Formula:
    """Nodes of one layer, written as arithmetic: names are the layer's own."""

    def __init__(self, scope: Scope) -> None:
        self._builder = scope.builder
        self._name = scope.name

    def __call__(self, kind: str, *operands: ir.Value | float, **attributes: Any) -> ir.Value:
        """One node; a number among the operands is a constant."""
        values = [o if isinstance(o, ir.Value) else self.constant(o, "number") for o in operands]
        return self._builder.op(kind, *values, name=self._name, **attributes)

    def constant(self, value: Any, role: str) -> ir.Value:
        """A float32 constant."""
        return self._builder.floats(value, f"{self._name}.{role}")

    def sizes(self, *sizes: int) -> ir.Value:
        """An int64 constant of one axis."""
        return self._builder.integers(sizes, f"{self._name}.sizes")


def _gelu(f: Formula, x: ir.Value) -> ir.Value:
    return f("Mul", f("Mul", x, 0.5), f("Add", f("Erf", f("Mul", x, sqrt(0.5))), 1.0))


def _gelu_tanh(f: Formula, x: ir.Value) -> ir.Value:
    cube = f("Mul", f("Mul", f("Mul", x, x), x), 0.044715)
    inner = f("Mul", f("Add", x, cube), sqrt(2 / pi))
    return f("Mul", f("Mul", x, 0.5), f("Add", f("Tanh", inner), 1.0))


def _silu(f: Formula, x: ir.Value) -> ir.Value:
    return f("Mul", x, f("Sigmoid", x))


def _mish(f: Formula, x: ir.Value) -> ir.Value:
    return f("Mul", x, f("Tanh", f("Softplus", x)))


def _hardsigmoid(f: Formula, x: ir.Value) -> ir.Value:
    return f("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _logsigmoid(f: Formula, x: ir.Value) -> ir.Value:
    return f("Neg", f("Softplus", f("Neg", x)))


_ACTIVATIONS: dict[str, str | Callable[[Formula, ir.Value], ir.Value]] = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "abs": "Abs",
    "neg": "Neg",
    "tanh": "Tanh",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "mish": _mish,
    "hardswish": "HardSwish",
    "hardsigmoid": _hardsigmoid,
    "softsign": "Softsign",
    "logsigmoid": _logsigmoid,
}
"""Kind -> operator, or what takes its place."""


def _activation(layer: ops.Activation, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    f, written = Formula(scope), _ACTIVATIONS[layer.kind]
    return f(written, inputs[0]) if isinstance(written, str) else written(f, inputs[0])


def _leaky_relu(layer: ops.LeakyReLU, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return Formula(scope)("LeakyRelu", inputs[0], alpha=layer.slope)


def _prelu(layer: ops.PReLU, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    f = Formula(scope)
    slopes = layer.slopes.reshape(-1, *[1] * (max(len(scope.features), 1) - 1))
    return f("PRelu", inputs[0], f.constant(slopes, "slopes"))


def _elu(layer: ops.ELU, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """`scale * relu(x) + scale * alpha * (exp(rate * min(x, 0)) - 1)`."""
    f, x = Formula(scope), inputs[0]
    down = f("Sub", f("Exp", f("Mul", f("Min", x, 0.0), layer.rate)), 1.0)
    line = f("Mul", f("Relu", x), layer.scale)
    return f("Add", line, f("Mul", down, layer.scale * layer.alpha))


def _softplus(layer: ops.Softplus, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    f, x = Formula(scope), inputs[0]
    steep = f("Mul", x, layer.beta)
    return f("Where", f("Greater", steep, layer.threshold), x, f("Div", f("Softplus", steep), layer.beta))


def _clamp(layer: ops.Clamp, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    x, f = inputs[0], Formula(scope)
    x = x if layer.low is None else f("Max", x, layer.low)
    return x if layer.high is None else f("Min", x, layer.high)


def _elementary(layer: ops.Elementary, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    f, x = Formula(scope), inputs[0]
    match layer.kind:
        case "exp":
            return f("Exp", x)
        case "expm1":
            return f("Sub", f("Exp", x), 1.0)
        case "log":
            return f("Log", x)
    return f("Log", f("Add", x, 1.0))


def _power(layer: ops.Power, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return power(inputs[0], layer.exponent, scope)


def power(x: ir.Value, exponent: float, scope: Scope) -> ir.Value:
    """`x ** exponent`; roots and reciprocals as such: they are more exact than a power."""
    f = Formula(scope)
    match exponent:
        case 2.0:
            return f("Mul", x, x)
        case 0.5:
            return f("Sqrt", x)
        case -1.0:
            return f("Reciprocal", x)
        case -0.5:
            return f("Reciprocal", f("Sqrt", x))
    return f("Pow", x, exponent)


def _softmax(layer: ops.Softmax, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    return Formula(scope)("Softmax", inputs[0], axis=layer.axis + 1)


def _log_softmax(layer: ops.LogSoftmax, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """In single steps: ONNX's own reference takes the logarithm of what has become 0."""
    f = Formula(scope)
    axis = f.sizes(layer.axis + 1)
    below = f("Sub", inputs[0], f("ReduceMax", inputs[0], axis, keepdims=1))
    return f("Sub", below, f("Log", f("ReduceSum", f("Exp", below), axis, keepdims=1)))


def _hand_over(layer: ops.HandOver, inputs: Sequence[ir.Value], scope: Scope) -> ir.Value:
    """In the order of the reference interpreter, so that both round alike."""
    f, (current, membrane) = Formula(scope), inputs
    angle = f("Mul", f("Mul", scope.state("U"), layer.theta), f("Cos", f("Mul", scope.state("V"), layer.theta)))
    handed = f("Mul", f("Mul", f("Sin", angle), 2.0), layer.decay)
    potential = f("Add", current, handed)
    scope.set_state("U", f("Identity", membrane))  # it may be a state already, and has one name
    scope.set_state("V", potential)
    return potential


RULES: dict[type, Callable[[Any, Sequence[ir.Value], Scope], ir.Value]] = {
    ops.Activation: _activation,
    ops.LeakyReLU: _leaky_relu,
    ops.PReLU: _prelu,
    ops.ELU: _elu,
    ops.Softplus: _softplus,
    ops.Clamp: _clamp,
    ops.Elementary: _elementary,
    ops.Power: _power,
    ops.Softmax: _softmax,
    ops.LogSoftmax: _log_softmax,
    ops.HandOver: _hand_over,
}
"""Kind -> rule."""

WRITTEN = (
    *("Abs", "Cos", "Erf", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Min", "Neg", "PRelu"),
    *("Pow", "Reciprocal", "ReduceMax", "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Tanh"),
)
"""The operators that only these rules write."""
