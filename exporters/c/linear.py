"""Weighted sums: rows of weights, one for every input, are added up where the input is not zero."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from psu_deploy.exporters.c.loops import fill_with
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import ops


def _linear(layer: ops.Linear, scope: Scope) -> None:
    outputs, inputs = layer.weight.shape
    rows = prod(scope.features[:-1])
    scope.say("y = W x + b: the rows of W, one for every input, are added in the order of the inputs; those of inputs")
    scope.say("that are 0 are left out.")
    weight = scope.constant(layer.weight.T, "weight")
    bias = None if layer.bias is None else scope.constant(layer.bias, "bias")
    if rows > 1:
        scope.count("r", rows)
        scope.line(f"const float *x_r = x + r * {inputs};", f"float *y_r = y + r * {outputs};")
    x, y = ("x_r", "y_r") if rows > 1 else ("x", "y")
    fill_with(scope, y, bias, outputs)
    add_active_rows(scope, y, outputs, weight, x, inputs)
    if rows > 1:
        scope.close()


def add_active_rows(scope: Scope, y: str, outputs: int, weight: str, x: str, inputs: int) -> None:
    """`y += W x`, W by rows of inputs."""
    places = scope.list_of_active(inputs)
    count = f"{scope.use('active')}({places}, {x}, {inputs})"
    scope.line(f"{scope.use('add_rows')}({y}, {outputs}, {weight}, {x}, {places}, {count});")


def _time_conv(layer: ops.TimeConv, scope: Scope) -> None:
    """Weights lie (k, C_in, C_out of a group): a row for every input of every step."""
    outputs, per_group, order = layer.weight.shape
    inputs = per_group * layer.groups
    scope.say("y[t] = sum over l of W[:, :, l] x[t - (k-1) + l] + b; the last k - 1 inputs are kept, oldest first.")
    out = outputs // layer.groups
    grouped = layer.weight.reshape(layer.groups, out, per_group, order).transpose(3, 0, 2, 1)
    weight = scope.constant(np.ascontiguousarray(grouped), "weight")
    bias = None if layer.bias is None else scope.constant(layer.bias, "bias")
    kept = scope.state("inputs") if order > 1 else ""
    fill_with(scope, "y", bias, outputs)
    if order > 1:
        scope.count("l", order - 1)
        _add_one_step(scope, layer, f"{weight} + l * {inputs * out}", f"{kept} + l * {inputs}")
        scope.close()
    _add_one_step(scope, layer, f"{weight} + {(order - 1) * inputs * out}", "x")
    shift_in(scope, kept, order - 1, inputs)


def _add_one_step(scope: Scope, layer: ops.TimeConv, weight: str, x: str) -> None:
    out, inputs = layer.weight.shape[0] // layer.groups, layer.weight.shape[1]
    if layer.groups == 1:
        add_active_rows(scope, "y", out, weight, x, inputs)
        return
    scope.count("g", layer.groups)
    group = f"{x} + g * {inputs}"
    add_active_rows(scope, f"y + g * {out}", out, f"{weight} + g * {inputs * out}", group, inputs)
    scope.close()


def shift_in(scope: Scope, kept: str, steps: int, size: int) -> None:
    """Forget the oldest of some steps, and remember x as the newest."""
    if steps > 1:
        scope.line(f"memmove({kept}, {kept} + {size}, {(steps - 1) * size} * sizeof *{kept});")
    if steps:
        scope.line(f"memcpy({kept} + {(steps - 1) * size}, x, {size} * sizeof *x);")


RULES: dict[type, Callable[[Any, Scope], None]] = {ops.Linear: _linear, ops.TimeConv: _time_conv}
"""Kind -> rule."""
