"""Random machines over the whole vocabulary: every kind of layer behind every other, joined, with neurons in between.

A machine follows from its seed alone. Features have one to four axes; whatever no layer reads is joined to the output,
so that nothing is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np

from psu_deploy.errors import InputError
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.ops.functions import FUNCTIONS
from tests.zoo import NEURONS, OPERATORS, STEPS

LARGEST = 80
"""Numbers per sample that a layer of a random machine may give."""

TRIES = 60


class _Draw:
    """What a layer is made of, at random."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def whole(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def one(self, choices):
        choices = list(choices)
        return choices[self.whole(0, len(choices) - 1)]

    def some(self, count: int):
        """Different axes, at least one."""
        chosen = self.random.permutation(count)[: self.whole(1, count)]
        return tuple(int(n) for n in chosen)

    def real(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def normal(self, *shape: int):
        """Weights that neither shrink nor blow up what goes in."""
        return self.random.standard_normal(shape) / max(1.0, prod(shape[1:])) ** 0.5

    def maybe(self, *shape: int):
        return self.random.standard_normal(shape) if self.whole(0, 1) else None

    def pairs(self, axes: int, most: int = 1):
        return tuple((self.whole(0, most), self.whole(0, most)) for _ in range(axes))

    def sizes(self, axes: int, most: int):
        return tuple(self.whole(1, most) for _ in range(axes))


def _conv(kind, axes):
    def make(d, s):
        groups = d.one(g for g in (1, 2, 3) if s[0] % g == 0)
        out, kernel = groups * d.whole(1, 2), d.sizes(axes, 3)
        weight = d.normal(out, s[0] // groups, *kernel)
        return kind(weight, d.maybe(out), d.sizes(axes, 2), d.pairs(axes), d.sizes(axes, 2), groups)

    return make


def _transposed(kind, axes):
    def make(d, s):
        groups = d.one(g for g in (1, 2) if s[0] % g == 0)
        stride, out = d.sizes(axes, 3), d.whole(1, 2)
        extra = tuple(d.whole(0, n - 1) for n in stride)
        weight = d.random.standard_normal((s[0], out, *d.sizes(axes, 3))) / s[0] ** 0.5
        return kind(weight, d.maybe(out * groups), stride, d.pairs(axes), extra, d.sizes(axes, 2), groups)

    return make


def _pool(kind, **flags):
    def make(d, s):
        window = _windows(d, s)
        return kind(*window, **{name: bool(d.whole(0, 1)) for name in flags})

    return make


def _windows(d, s):
    axes = len(s) - 1
    return d.sizes(axes, 3), d.sizes(axes, 2), d.pairs(axes)


def _norm(kind):
    def make(d, s):
        shape = s[-d.whole(1, len(s)) :]
        constants = [d.maybe(*shape) for _ in range(2 if kind is ops.LayerNorm else 1)]
        return kind(shape, d.one((1e-5, 1e-3, 0.1)), *constants)

    return make


def _group_norm(d, s):
    groups = d.one(g for g in (1, 2, 3, s[0]) if s[0] % g == 0)
    return ops.GroupNorm(groups, d.one((1e-5, 0.1)), d.maybe(s[0]), d.maybe(s[0]))


def _ends(d):
    low = d.real(-1.5, 0.0)
    return d.one(((low, low + d.real(0.0, 2.0)), (low, None), (None, low + 1.0)))


def _reshaped(d, s):
    count, shape = prod(s), []
    for _ in range(d.whole(1, 3)):
        shape.append(d.one(n for n in range(1, 7) if count % n == 0))
        count //= shape[-1]
    return (*shape, count)


def _operator(d, s):
    return ops.Filter(d.one(o for o in OPERATORS.values() if o.horizon in (None, STEPS)))


def _time_conv(d, s):
    groups = d.one(g for g in (1, 2, 3) if s[0] % g == 0)
    order = d.whole(1, 3)
    weight, ahead = d.normal(2 * groups, s[0] // groups, order), d.one((0, 0, order - 1))
    return ops.TimeConv(weight, d.maybe(2 * groups), groups, ahead)


def _part(d, n):
    """Indices of an axis of n entries: a slice, or anything."""
    if d.whole(0, 1):
        return tuple(range(d.whole(0, n - 1), n, d.whole(1, 2)))
    return tuple(d.whole(0, n - 1) for _ in range(d.whole(1, n + 1)))


def _take(d, s):
    axis = d.whole(0, len(s) - 1)
    return ops.Take(axis, _part(d, s[axis]))


def _project(d, s):
    axis = d.whole(0, len(s) - 1)
    return ops.Project(d.normal(d.whole(1, 4), s[axis]), axis)


def _expand(d, s):
    wide = tuple(d.whole(2, 3) if n == 1 else n for n in s)
    return ops.Expand((d.whole(1, 2), *wide) if len(s) < 4 else wide)


def _affine(d, s):
    shapes = [s[d.whole(0, len(s) - 1) :], tuple(1 if d.whole(0, 1) else n for n in s)]
    return ops.Affine(*(d.random.standard_normal(shape) for shape in shapes))


def _top_k(kind, d, s):
    axis = d.whole(0, len(s) - 1)
    return kind(axis, d.whole(1, s[axis]), bool(d.whole(0, 1)))


TAME, POSITIVE = ops.Clamp(-3.0, 3.0), ops.Softplus()

Maker = Callable[[_Draw, tuple[int, ...]], ops.Layer | tuple[ops.Layer, ...]]

MAKERS: dict[type, Maker] = {
    ops.Linear: lambda d, s: ops.Linear(d.normal(n := d.whole(1, 5), s[-1]), d.maybe(n)),
    ops.Conv1d: _conv(ops.Conv1d, 1),
    ops.Conv2d: _conv(ops.Conv2d, 2),
    ops.Conv3d: _conv(ops.Conv3d, 3),
    ops.ConvTranspose1d: _transposed(ops.ConvTranspose1d, 1),
    ops.ConvTranspose2d: _transposed(ops.ConvTranspose2d, 2),
    ops.AvgPool: _pool(ops.AvgPool, count_padding=True),
    ops.SumPool: _pool(ops.SumPool),
    ops.MaxPool: _pool(ops.MaxPool),
    ops.LPPool: lambda d, s: (TAME, POSITIVE, ops.LPPool(*_windows(d, s), d.one((0.5, 1.7, 2.0, 3.0)))),
    ops.ChannelAffine: lambda d, s: ops.ChannelAffine(d.random.standard_normal(s[0]), d.random.standard_normal(s[0])),
    ops.Affine: _affine,
    ops.Project: _project,
    ops.Flatten: lambda d, s: ops.Flatten(),
    ops.Reshape: lambda d, s: ops.Reshape(_reshaped(d, s)),
    ops.Permute: lambda d, s: ops.Permute(tuple(int(n) for n in d.random.permutation(len(s)))),
    ops.Take: _take,
    ops.Expand: _expand,
    ops.ConstantPad: lambda d, s: ops.ConstantPad(d.pairs(len(s)), d.one((0.0, 1.0, -0.3))),
    ops.Reduce: lambda d, s: ops.Reduce(d.one(("mean", "sum", "max", "min")), d.some(len(s)), bool(d.whole(0, 1))),
    ops.ArgMax: lambda d, s: (  # no two of them equal
        ops.Affine(np.ones(()), d.random.standard_normal(s)),
        ops.ArgMax(d.whole(0, len(s) - 1), bool(d.whole(0, 1))),
    ),
    ops.TopK: lambda d, s: _top_k(ops.TopK, d, s),
    ops.ArgTopK: lambda d, s: (ops.Affine(np.ones(()), d.random.standard_normal(s)), _top_k(ops.ArgTopK, d, s)),
    ops.Activation: lambda d, s: ops.Activation(d.one(FUNCTIONS)),
    ops.LeakyReLU: lambda d, s: ops.LeakyReLU(d.real(-0.5, 1.5)),
    ops.PReLU: lambda d, s: ops.PReLU(d.random.standard_normal(d.one((1, s[0])))),
    ops.ELU: lambda d, s: ops.ELU(d.real(-0.5, 2.0), d.real(0.5, 1.5), d.real(0.2, 2.0)),
    ops.Softplus: lambda d, s: ops.Softplus(d.one((-1.0, 0.5, 3.0)), d.one((1.0, 20.0))),
    ops.Clamp: lambda d, s: ops.Clamp(*_ends(d)),
    ops.Elementary: lambda d, s: (
        (TAME, ops.Elementary(d.one(("exp", "expm1"))))
        if d.whole(0, 1)
        else (POSITIVE, ops.Elementary(d.one(("log", "log1p"))))
    ),
    ops.Power: lambda d, s: (TAME, POSITIVE, ops.Power(d.one((-2.0, -1.0, -0.5, 0.5, 1.5, 2.0, 3.0)))),
    ops.Softmax: lambda d, s: ops.Softmax(d.whole(0, len(s) - 1)),
    ops.LogSoftmax: lambda d, s: ops.LogSoftmax(d.whole(0, len(s) - 1)),
    ops.LayerNorm: _norm(ops.LayerNorm),
    ops.RMSNorm: _norm(ops.RMSNorm),
    ops.GroupNorm: _group_norm,
    ops.Delay: lambda d, s: ops.Delay(d.whole(1, 3)),
    ops.Wait: lambda d, s: ops.Wait(1),
    ops.TimeConv: _time_conv,
    ops.Filter: _operator,
    ops.Hold: lambda d, s: ops.Hold(),
    ops.Readout: lambda d, s: ops.Readout(d.one(("mean", "sum", "max", "min", "last"))),
    ops.MeanOfLast: lambda d, s: ops.MeanOfLast(d.whole(1, 4)),
    **{
        kind: lambda d, s, kind=kind: d.one(
            n for n in NEURONS.values() if type(n) is kind and n.horizon in (None, STEPS)
        )
        for kind in (ops.SpikingNeuron, ops.LIFNeuron, ops.BernoulliNeuron)
    },
}
"""Kind of layer with one input -> what makes one that may fit features; `_Growing` asks again where it does not."""

JOINING = (ops.Add, ops.Multiply, ops.Subtract, ops.Divide, ops.MatMul, ops.Concat)


class _Value(NamedTuple):
    name: str
    shape: tuple[int, ...]
    late: int
    fired: bool
    """Whether there are neurons before it."""


class _Growing:
    """A machine in the making."""

    def __init__(self, seed: int) -> None:
        self.seed, self.draw = seed, _Draw(seed)
        self.features = self.draw.sizes(self.draw.whole(1, 4), 4)
        self.nodes: list[Node] = []
        self.values = [_Value("x", self.features, 0, False)]

    def put(self, layer: ops.Layer, *sources: _Value) -> _Value:
        """Another layer; what is early waits for what is late.

        Raises:
            InputError: if it does not fit, or gives too many numbers.
        """
        late = max(source.late for source in sources)
        if layer.lookahead and isinstance(layer, ops.TimeConv) and sources[0].fired:
            raise InputError("no look-ahead behind neurons")
        sources = tuple(self._waiting(source, late - source.late) for source in sources)
        shape = layer.output_shape(*(source.shape for source in sources))
        if prod(shape) > LARGEST or len(shape) > 5 or late + layer.lookahead >= STEPS - 2:
            raise InputError("too much")
        name = f"n{len(self.nodes)}"
        self.nodes.append(Node(name, layer, tuple(source.name for source in sources)))
        fired = isinstance(layer, ops.Neuron) or any(source.fired for source in sources)
        self.values.append(_Value(name, shape, late + layer.lookahead, fired))
        return self.values[-1]

    def _waiting(self, source: _Value, steps: int) -> _Value:
        return self.put(ops.Wait(steps), source) if steps else source

    def unread(self) -> list[_Value]:
        read = {name for node in self.nodes for name in node.inputs}
        return [value for value in self.values[1:] if value.name not in read]

    def source(self) -> _Value:
        """The newest one more often than any other."""
        return self.values[-1] if self.draw.whole(0, 2) else self.draw.one(self.values)

    def grow(self, kind: type) -> None:
        """A layer of this kind, or of it and what tames its input."""
        for _ in range(TRIES):
            kept, known = len(self.nodes), len(self.values)
            try:
                self._join(kind) if kind in JOINING else self._extend(kind)
                return
            except (InputError, IndexError, ValueError, ZeroDivisionError):
                del self.nodes[kept:], self.values[known:]

    def _extend(self, kind: type) -> None:
        value = self.source()
        made = MAKERS[kind](self.draw, value.shape)
        for layer in made if isinstance(made, tuple) else (made,):
            value = self.put(layer, value)

    def _join(self, kind: type) -> None:
        first, second = self.source(), self.draw.one(self.values)
        if kind is ops.Divide:  # by nothing near zero
            second = self.put(ops.Softplus(1.0), self.put(TAME, second))
        if kind is ops.MatMul:
            axes = len(second.shape)
            second = self.put(ops.Permute((*range(axes - 2), axes - 1, axes - 2)), second)
        layer = ops.Concat(self.draw.whole(0, len(first.shape) - 1)) if kind is ops.Concat else kind()
        self.put(layer, first, second)

    def finished(self) -> StateMachine:
        """All that nothing reads, side by side: in one output, or each as its own."""
        ends = [self.put(ops.Flatten(), value) for value in self.unread()]
        if len(ends) > 1:
            late = max(end.late for end in ends)
            ends = [self._waiting(end, late - end.late) for end in ends]
            names = tuple(end.name for end in ends)
            end = ops.Outputs(tuple(f"of {name}" for name in names)) if self.seed % 3 == 0 else ops.Concat(0)
            self.nodes.append(Node("output", end, names))
        return StateMachine(tuple(self.nodes), self.features)


def random_machine(seed: int, layers: int = 9) -> StateMachine:
    """The machine of a seed: so many layers, and what joins them.

    The first kind is that of the seed, so that as many seeds as there are kinds have every kind.
    """
    growing = _Growing(seed)
    kinds = [*MAKERS, *JOINING]
    neurons = (ops.SpikingNeuron, ops.SpikingNeuron, ops.LIFNeuron)
    while len(growing.nodes) < layers:
        kind = growing.draw.one(neurons) if growing.draw.whole(0, 4) == 0 else growing.draw.one(kinds)
        growing.grow(kind)
    growing.grow(kinds[seed % len(kinds)])
    return growing.finished()
