"""Layers at random: for every kind one that may fit given features; `grow` asks again where it does not."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from psu_deploy.fuzz.draw import Draw
from psu_deploy.fuzz.neurons import Parts, bernoulli_neuron, lif_neuron, operator, spiking_neuron
from psu_deploy.machine import ops
from psu_deploy.machine.ops.functions import FUNCTIONS

Shape = tuple[int, ...]


Maker = Callable[[Draw, Shape, Parts], ops.Layer | tuple[ops.Layer, ...]]


def _conv(kind: type, axes: int) -> Maker:
    def make(d: Draw, s: Shape, p: Parts) -> Any:
        groups = d.one(g for g in (1, 2, 3) if s[0] % g == 0)
        out, kernel = groups * d.whole(1, 2), d.sizes(axes, 3)
        weight = d.normal(out, s[0] // groups, *kernel)
        return kind(weight, d.maybe(out), d.sizes(axes, 2), d.pairs(axes), d.sizes(axes, 2), groups)

    return make


def _transposed(kind: type, axes: int) -> Maker:
    def make(d: Draw, s: Shape, p: Parts) -> Any:
        groups = d.one(g for g in (1, 2) if s[0] % g == 0)
        stride, out = d.sizes(axes, 3), d.whole(1, 2)
        extra = tuple(d.whole(0, n - 1) for n in stride)
        weight = d.standard(s[0], out, *d.sizes(axes, 3)) / s[0] ** 0.5
        return kind(weight, d.maybe(out * groups), stride, d.pairs(axes), extra, d.sizes(axes, 2), groups)

    return make


def _pool(kind: type, *flags: str) -> Maker:
    def make(d: Draw, s: Shape, p: Parts) -> Any:
        return kind(*_windows(d, s), **{name: bool(d.whole(0, 1)) for name in flags})

    return make


def _lp_pool(d: Draw, s: Shape, p: Parts) -> tuple[ops.Layer, ...]:
    kernel, stride, padding = _windows(d, s)
    return TAME, POSITIVE, ops.LPPool(kernel, stride, padding, d.one((0.5, 1.7, 2.0, 3.0)))


def _windows(d: Draw, s: Shape) -> Any:
    axes = len(s) - 1
    return d.sizes(axes, 3), d.sizes(axes, 2), d.pairs(axes)


def _norm(kind: type) -> Maker:
    def make(d: Draw, s: Shape, p: Parts) -> Any:
        shape = s[-d.whole(1, len(s)) :]
        constants = [d.maybe(*shape) for _ in range(2 if kind is ops.LayerNorm else 1)]
        return kind(shape, d.one((1e-5, 1e-3, 0.1)), *constants)

    return make


def _group_norm(d: Draw, s: Shape, p: Parts) -> ops.Layer:
    groups = d.one(g for g in (1, 2, 3, s[0]) if s[0] % g == 0)
    return ops.GroupNorm(groups, d.one((1e-5, 0.1)), d.maybe(s[0]), d.maybe(s[0]))


def _ends(d: Draw) -> tuple[float | None, float | None]:
    low = d.real(-1.5, 0.0)
    return d.one(((low, low + d.real(0.0, 2.0)), (low, None), (None, low + 1.0)))


def _reshape(d: Draw, s: Shape, p: Parts) -> ops.Layer:
    count, shape = prod(s), []
    for _ in range(d.whole(1, 3)):
        shape.append(d.one(n for n in range(1, 7) if count % n == 0))
        count //= shape[-1]
    return ops.Reshape((*shape, count))


def _time_conv(d: Draw, s: Shape, p: Parts) -> ops.Layer:
    groups = d.one(g for g in (1, 2, 3) if s[0] % g == 0)
    order = d.whole(1, 3)
    weight, ahead = d.normal(2 * groups, s[0] // groups, order), d.one((0, 0, order - 1))
    return ops.TimeConv(weight, d.maybe(2 * groups), groups, ahead)


def _part(d: Draw, n: int) -> tuple[int, ...]:
    """Indices of an axis of n entries: a slice, or anything."""
    if d.whole(0, 1):
        return tuple(range(d.whole(0, n - 1), n, d.whole(1, 2)))
    return tuple(d.whole(0, n - 1) for _ in range(d.whole(1, n + 1)))


def _take(d: Draw, s: Shape, p: Parts) -> ops.Layer:
    axis = d.whole(0, len(s) - 1)
    return ops.Take(axis, _part(d, s[axis]))


def _project(d: Draw, s: Shape, p: Parts) -> ops.Layer:
    axis = d.whole(0, len(s) - 1)
    return ops.Project(d.normal(d.whole(1, 4), s[axis]), axis)


def _expand(d: Draw, s: Shape, p: Parts) -> ops.Layer:
    wide = tuple(d.whole(2, 3) if n == 1 else n for n in s)
    return ops.Expand((d.whole(1, 2), *wide) if len(s) < 4 else wide)


def _affine(d: Draw, s: Shape, p: Parts) -> ops.Layer:
    scale, shift = s[d.whole(0, len(s) - 1) :], tuple(1 if d.whole(0, 1) else n for n in s)
    return ops.Affine(d.standard(*scale), d.standard(*shift))


def _top_k(kind: type, d: Draw, s: Shape) -> Any:
    axis = d.whole(0, len(s) - 1)
    return kind(axis, d.whole(1, s[axis]), bool(d.whole(0, 1)))


def _untied(d: Draw, s: Shape) -> ops.Layer:
    """No two numbers equal behind it."""
    return ops.Affine(np.ones(()), np.asarray(d.random.standard_normal(s)))


def _elementary(d: Draw, s: Shape, p: Parts) -> tuple[ops.Layer, ...]:
    if d.whole(0, 1):
        return TAME, ops.Elementary(d.one(("exp", "expm1")))
    return POSITIVE, ops.Elementary(d.one(("log", "log1p")))


TAME, POSITIVE = ops.Clamp(-3.0, 3.0), ops.Softplus()

MAKERS: dict[type, Maker] = {
    ops.Linear: lambda d, s, p: ops.Linear(d.normal(n := d.whole(1, 5), s[-1]), d.maybe(n)),
    ops.Conv1d: _conv(ops.Conv1d, 1),
    ops.Conv2d: _conv(ops.Conv2d, 2),
    ops.Conv3d: _conv(ops.Conv3d, 3),
    ops.ConvTranspose1d: _transposed(ops.ConvTranspose1d, 1),
    ops.ConvTranspose2d: _transposed(ops.ConvTranspose2d, 2),
    ops.AvgPool: _pool(ops.AvgPool, "count_padding"),
    ops.SumPool: _pool(ops.SumPool),
    ops.MaxPool: _pool(ops.MaxPool),
    ops.LPPool: _lp_pool,
    ops.ChannelAffine: lambda d, s, p: ops.ChannelAffine(d.standard(s[0]), d.standard(s[0])),
    ops.Affine: _affine,
    ops.Project: _project,
    ops.Flatten: lambda d, s, p: ops.Flatten(),
    ops.Reshape: _reshape,
    ops.Permute: lambda d, s, p: ops.Permute(tuple(int(n) for n in d.random.permutation(len(s)))),
    ops.Take: _take,
    ops.Expand: _expand,
    ops.ConstantPad: lambda d, s, p: ops.ConstantPad(d.pairs(len(s)), d.one((0.0, 1.0, -0.25 if d.exact else -0.3))),
    ops.Reduce: lambda d, s, p: ops.Reduce(d.one(("mean", "sum", "max", "min")), d.some(len(s)), bool(d.whole(0, 1))),
    ops.ArgMax: lambda d, s, p: (_untied(d, s), ops.ArgMax(d.whole(0, len(s) - 1), bool(d.whole(0, 1)))),
    ops.TopK: lambda d, s, p: _top_k(ops.TopK, d, s),
    ops.ArgTopK: lambda d, s, p: (_untied(d, s), _top_k(ops.ArgTopK, d, s)),
    ops.Activation: lambda d, s, p: ops.Activation(d.one(("relu", "abs", "neg") if d.exact else FUNCTIONS)),
    ops.LeakyReLU: lambda d, s, p: ops.LeakyReLU(d.real(-0.5, 1.5)),
    ops.PReLU: lambda d, s, p: ops.PReLU(d.standard(d.one((1, s[0])))),
    ops.ELU: lambda d, s, p: ops.ELU(d.real(-0.5, 2.0), d.real(0.5, 1.5), d.real(0.2, 2.0)),
    ops.Softplus: lambda d, s, p: ops.Softplus(d.one((-1.0, 0.5, 3.0)), d.one((1.0, 20.0))),
    ops.Clamp: lambda d, s, p: ops.Clamp(*_ends(d)),
    ops.Elementary: _elementary,
    ops.Power: lambda d, s, p: (TAME, POSITIVE, ops.Power(d.one((-2.0, -1.0, -0.5, 0.5, 1.5, 2.0, 3.0)))),
    ops.Softmax: lambda d, s, p: ops.Softmax(d.whole(0, len(s) - 1)),
    ops.LogSoftmax: lambda d, s, p: ops.LogSoftmax(d.whole(0, len(s) - 1)),
    ops.LayerNorm: _norm(ops.LayerNorm),
    ops.RMSNorm: _norm(ops.RMSNorm),
    ops.GroupNorm: _group_norm,
    ops.Delay: lambda d, s, p: ops.Delay(d.whole(1, 3)),
    ops.Wait: lambda d, s, p: ops.Wait(1),
    ops.TimeConv: _time_conv,
    ops.Filter: lambda d, s, p: ops.Filter(operator(d, p)),
    ops.Hold: lambda d, s, p: ops.Hold(),
    ops.Readout: lambda d, s, p: ops.Readout(d.one(("mean", "sum", "max", "min", "last"))),
    ops.MeanOfLast: lambda d, s, p: ops.MeanOfLast(d.whole(1, 4)),
    ops.SpikingNeuron: lambda d, s, p: spiking_neuron(d, p),
    ops.LIFNeuron: lambda d, s, p: lif_neuron(d),
    ops.BernoulliNeuron: lambda d, s, p: bernoulli_neuron(d, p),
}
"""Kind of layer with one input -> (draw, features, parts) -> one of it, or it and what tames its input."""

JOINING = (ops.Add, ops.Multiply, ops.Subtract, ops.Divide, ops.MatMul, ops.Concat, ops.HandOver)
"""Kinds with several inputs; `grow` makes them."""
