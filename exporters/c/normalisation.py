"""What divides numbers by their own size: norms and softmax. Means and deviations in two passes, as the bound asks."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from psu_deploy.exporters.c.numbers import literal
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops


def _layer_norm(layer: ops.LayerNorm, scope: Scope) -> None:
    scope.say("y = (x - mean) / sqrt(var + eps) * weight + bias, over the last axes")
    _normalise(layer, scope, prod(layer.shape), layer.bias, "i", centred=True)


def _rms_norm(layer: ops.RMSNorm, scope: Scope) -> None:
    scope.say("y = x / sqrt(mean(x**2) + eps) * weight, over the last axes")
    _normalise(layer, scope, prod(layer.shape), None, "i", centred=False)


def _group_norm(layer: ops.GroupNorm, scope: Scope) -> None:
    scope.say("y = (x - mean) / sqrt(var + eps) * weight + bias, each group of channels for itself")
    row, along = scope.size // layer.groups, prod(scope.features[1:])
    _normalise(layer, scope, row, layer.bias, f"(r * {row} + i) / {along}", centred=True)


def _normalise(layer: Any, scope: Scope, row: int, shift: Any, index: str, *, centred: bool) -> None:
    weight = None if layer.weight is None else scope.constant(layer.weight, "weight")
    bias = None if shift is None else scope.constant(shift, "bias")
    scope.count("r", scope.size // row)
    scope.line(f"const float *v = x + r * {row};", "float mean = 0.0f, square = 0.0f;")
    if centred:
        scope.count("i", row)
        scope.line("mean += v[i];")
        scope.close()
        scope.line(f"mean /= {literal(row)};")
    scope.count("i", row)
    scope.line("square += (v[i] - mean) * (v[i] - mean);")
    scope.close()
    scope.line(f"const float size = sqrtf(square / {literal(row)} + {literal(layer.eps)});")
    scope.count("i", row)
    scaled = "(v[i] - mean) / size" + (f" * {weight}[{index}]" if weight else "")
    scope.line(f"y[r * {row} + i] = {scaled}{f' + {bias}[{index}]' if bias else ''};")
    scope.close(2)


def _softmax(layer: ops.Softmax, scope: Scope) -> None:
    scope.say(f"y = exp(x) / sum of exp(x) along axis {layer.axis}; the maximum is subtracted first")
    _over_axis(layer.axis, scope, "y[{at}] = expf(v[{at}] - most);\nsum += y[{at}];", "y[{at}] /= sum;")


def _log_softmax(layer: ops.LogSoftmax, scope: Scope) -> None:
    scope.say(f"y = x - log(sum of exp(x)) along axis {layer.axis}; the maximum is subtracted first")
    _over_axis(layer.axis, scope, "sum += expf(v[{at}] - most);", "y[{at}] = (v[{at}] - most) - logf(sum);")


def _over_axis(axis: int, scope: Scope, add: str, result: str) -> None:
    before, size, behind = prod(scope.features[:axis]), scope.features[axis], prod(scope.features[axis + 1 :])
    at = f"i * {behind}" if behind > 1 else "i"
    scope.count("a", before)
    scope.count("b", behind)
    start = f"a * {size * behind} + b"
    scope.line(f"const float *v = x + {start};", f"float *out = y + {start};", "float most = v[0], sum = 0.0f;")
    scope.count("i", size)
    scope.line(f"most = v[{at}] > most || v[{at}] != v[{at}] ? v[{at}] : most;")
    scope.close()
    for text in (add, result):
        scope.count("i", size)
        scope.line(*text.format(at=at).replace("y[", "out[").split("\n"))
        scope.close()
    scope.close(2)


RULES: dict[type, Callable[[Any, Scope], None]] = {
    ops.LayerNorm: _layer_norm,
    ops.RMSNorm: _rms_norm,
    ops.GroupNorm: _group_norm,
    ops.Softmax: _softmax,
    ops.LogSoftmax: _log_softmax,
}
"""Kind -> rule."""
