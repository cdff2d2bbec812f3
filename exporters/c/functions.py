"""Functions of one input, entry by entry. The exponentials but the sigmoid are those of libm."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, prod, sqrt
from typing import Any

from psu_deploy.exporters.c.loops import each, nest, place, strides_of
from psu_deploy.exporters.c.numbers import literal
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops

_SIX = "(v + 3.0f < 0.0f ? 0.0f : v + 3.0f > 6.0f ? 6.0f : v + 3.0f)"
_CUBIC = f"{literal(sqrt(2 / pi))} * (v + 0.044715f * v * v * v)"

_ACTIVATIONS = {
    "relu": "v < 0.0f ? 0.0f : v",
    "sigmoid": "@sigmoid(v)",
    "abs": "fabsf(v)",
    "neg": "-v",
    "tanh": "tanhf(v)",
    "erf": "erff(v)",
    "sin": "sinf(v)",
    "cos": "cosf(v)",
    "gelu": f"0.5f * v * (1.0f + erff(v * {literal(sqrt(0.5))}))",
    "gelu_tanh": f"0.5f * v * (1.0f + tanhf({_CUBIC}))",
    "silu": "v * @sigmoid(v)",
    "mish": "v * tanhf(log1pf(expf(v)))",
    "hardswish": f"v * {_SIX} / 6.0f",
    "hardsigmoid": f"{_SIX} / 6.0f",
    "softsign": "v / (1.0f + fabsf(v))",
    "logsigmoid": "(v < 0.0f ? v : 0.0f) - log1pf(expf(-fabsf(v)))",
}
"""Kind -> expression in v; `@` stands before a function of ours."""

_ELEMENTARY = {"exp": "expf(v)", "expm1": "expm1f(v)", "log": "logf(v)", "log1p": "log1pf(v)"}


def power(base: str, exponent: float) -> str:
    """`base ** exponent`."""
    simple = {1.0: base, 2.0: f"{base} * {base}", 0.5: f"sqrtf({base})", -1.0: f"1.0f / {base}"}
    return simple.get(exponent, f"powf({base}, {literal(exponent)})")


def _activation(layer: ops.Activation, scope: Scope) -> None:
    expression = _ACTIVATIONS[layer.kind]
    if "@" in expression:
        expression = expression.replace("@sigmoid", scope.use("sigmoid"))
    scope.say(f"y = {layer.kind}(x)")
    each(scope, expression)


def _leaky_relu(layer: ops.LeakyReLU, scope: Scope) -> None:
    scope.say("y = x where x > 0, slope * x elsewhere")
    each(scope, f"v > 0.0f ? v : {literal(layer.slope)} * v")


def _prelu(layer: ops.PReLU, scope: Scope) -> None:
    scope.say("y = x where x > 0, slope * x elsewhere, a slope for each channel")
    slopes = scope.constant(layer.slopes, "slopes")
    if len(layer.slopes) == 1:
        each(scope, f"v > 0.0f ? v : {slopes}[0] * v")
        return
    along = prod(scope.features[1:])
    each(scope, f"v > 0.0f ? v : {slopes}[i / {along}] * v")


def _elu(layer: ops.ELU, scope: Scope) -> None:
    scope.say("y = scale * x where x > 0, scale * alpha * (exp(rate * x) - 1) elsewhere")
    scale, alpha, rate = map(literal, (layer.scale, layer.alpha, layer.rate))
    each(scope, f"{scale} * (v > 0.0f ? v : {alpha} * expm1f({rate} * v))")


def _softplus(layer: ops.Softplus, scope: Scope) -> None:
    scope.say("y = log(1 + exp(beta * x)) / beta, and x where beta * x > threshold")
    beta, threshold = literal(layer.beta), literal(layer.threshold)
    each(scope, f"{beta} * v > {threshold} ? v : log1pf(expf({beta} * v)) / {beta}")


def _clamp(layer: ops.Clamp, scope: Scope) -> None:
    scope.say(f"y = x, not below {layer.low} and not above {layer.high}")
    expression = "v"
    if layer.high is not None:
        expression = f"v > {literal(layer.high)} ? {literal(layer.high)} : {expression}"
    if layer.low is not None:
        expression = f"v < {literal(layer.low)} ? {literal(layer.low)} : {expression}"
    each(scope, expression)


def _elementary(layer: ops.Elementary, scope: Scope) -> None:
    scope.say(f"y = {layer.kind}(x)")
    each(scope, _ELEMENTARY[layer.kind])


def _power(layer: ops.Power, scope: Scope) -> None:
    scope.say(f"y = x ** {layer.exponent!r}")
    each(scope, power("v", layer.exponent))


def _channel_affine(layer: ops.ChannelAffine, scope: Scope) -> None:
    scope.say("y[c] = scale[c] * x[c] + shift[c]")
    scale, shift = scope.constant(layer.scale, "scale"), scope.constant(layer.shift, "shift")
    shape = (scope.features[0], prod(scope.features[1:]))
    indices, opened = nest(scope, shape)
    at = place(indices, strides_of(shape))
    scope.line(f"y[{at}] = x[{at}] * {scale}[{indices[0]}] + {shift}[{indices[0]}];")
    scope.close(opened)


RULES: dict[type, Callable[[Any, Scope], None]] = {
    ops.Activation: _activation,
    ops.LeakyReLU: _leaky_relu,
    ops.PReLU: _prelu,
    ops.ELU: _elu,
    ops.Softplus: _softplus,
    ops.Clamp: _clamp,
    ops.Elementary: _elementary,
    ops.Power: _power,
    ops.ChannelAffine: _channel_affine,
}
"""Kind -> rule."""
