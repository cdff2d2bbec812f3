"""Random machines: every kind of layer behind every other, joined, with neurons in between.

A machine follows from its seed alone. Features have one to four axes; whatever no layer reads is joined to the output,
so that nothing is dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from psu_deploy.errors import InputError
from psu_deploy.fuzz.draw import Draw
from psu_deploy.fuzz.layers import JOINING, MAKERS, TAME
from psu_deploy.fuzz.neurons import Parts, operator
from psu_deploy.fuzz.profiles import ALL, Profile
from psu_deploy.machine import Node, StateMachine, ops

LARGEST = 80
"""Numbers per sample that a layer of a random machine may give."""

STEPS = 6
"""Horizon of learned matrices, unless said otherwise."""

_TRIES = 60

_MISFITS = (InputError, IndexError, ValueError, ZeroDivisionError)
"""What a layer says that does not fit where it was put."""


_BEHIND: dict[type, tuple[type, ...]] = {
    ops.ChannelAffine: (ops.Linear, ops.Conv1d, ops.Conv2d),
    ops.MaxPool: (ops.Neuron,),
}
"""Kind -> what it stands behind in a chain."""


class _Value(NamedTuple):
    name: str
    shape: tuple[int, ...]
    late: int
    fired: bool
    """Whether there are neurons before it."""


class Growing:
    """A machine in the making.

    Args:
        draw: every choice comes from it.
        profile: what may be drawn.
        steps: horizon of learned matrices.
    """

    def __init__(self, draw: Draw, profile: Profile = ALL, steps: int = STEPS) -> None:
        self.draw, self.profile = draw, profile
        self.parts = Parts(steps, profile.operators, profile.resets, profile.estimators, profile.forgets)
        self.features = draw.sizes(draw.whole(1, profile.axes), 4)
        self.nodes: list[Node] = []
        self.values = [_Value("x", self.features, 0, False)]

    def grow(self, kind: type) -> None:
        """A layer of this kind, or of it and what tames its input; nothing where none is found that fits."""
        for _ in range(_TRIES):
            kept, known = len(self.nodes), len(self.values)
            try:
                self._join(kind) if kind in JOINING else self._extend(kind)
                return
            except _MISFITS:
                del self.nodes[kept:], self.values[known:]

    def begin(self) -> None:
        """A layer that always fits: the input may be larger than what others may give."""
        self._put(ops.Reduce("sum", tuple(range(len(self.features))), keepdims=True), self.values[0])

    def finished(self, apart: bool) -> StateMachine:
        """All that nothing reads, side by side: in one output, or each as its own."""
        if self.profile.chain and self.draw.chance(0.15):
            self._put(ops.Filter(operator(self.draw, self.parts)), self.values[-1])
        if self.profile.chain and self.draw.chance(0.3):
            self._put(ops.Readout(self.draw.one(("mean", "sum", "last"))), self.values[-1])
        unread = self._unread()
        ends = unread if len(unread) == 1 and self.profile.chain else [self._put(ops.Flatten(), v) for v in unread]
        if len(ends) > 1:
            late = max(end.late for end in ends)
            ends = [self._waiting(end, late - end.late) for end in ends]
            names = tuple(end.name for end in ends)
            end = ops.Outputs(tuple(f"of {name}" for name in names)) if apart else ops.Concat(0)
            self.nodes.append(Node("output", end, names))
        return StateMachine(tuple(self.nodes), self.features)

    def _put(self, layer: ops.Layer, *sources: _Value) -> _Value:
        """Another layer; what is early waits for what is late.

        Raises:
            InputError: if it does not fit, or gives too many numbers.
        """
        late = max(source.late for source in sources)
        if layer.lookahead and isinstance(layer, ops.TimeConv) and sources[0].fired:
            raise InputError("no look-ahead behind neurons")
        sources = tuple(self._waiting(source, late - source.late) for source in sources)
        shape = layer.output_shape(*(source.shape for source in sources))
        most = max(1, self.parts.steps - 2)
        if prod(shape) > LARGEST or len(shape) > 5 or late + layer.lookahead >= most:
            raise InputError("too much")
        name = f"n{len(self.nodes)}"
        self.nodes.append(Node(name, layer, tuple(source.name for source in sources)))
        fired = isinstance(layer, ops.Neuron) or any(source.fired for source in sources)
        self.values.append(_Value(name, shape, late + layer.lookahead, fired))
        return self.values[-1]

    def _waiting(self, source: _Value, steps: int) -> _Value:
        return self._put(ops.Wait(steps), source) if steps else source

    def _unread(self) -> list[_Value]:
        read = {name for node in self.nodes for name in node.inputs}
        return [value for value in self.values[1:] if value.name not in read]

    def _source(self) -> _Value:
        """The newest one more often than any other."""
        newest = self.profile.chain or self.draw.whole(0, 2)
        return self.values[-1] if newest else self.draw.one(self.values)

    def _extend(self, kind: type) -> None:
        value = self._source()
        if self.profile.chain and kind is ops.Linear and len(value.shape) > 1:
            value = self._put(ops.Flatten(), value)
        if self.profile.chain and not self._may_follow(kind):
            raise InputError("not behind this layer")
        made = MAKERS[kind](self.draw, value.shape, self.parts)
        for layer in made if isinstance(made, tuple) else (made,):
            value = self._put(layer, value)

    def _may_follow(self, kind: type) -> bool:
        """In a chain: a BatchNorm stands behind weights, and a maximum is one of spikes."""
        behind = _BEHIND.get(kind)
        return behind is None or (bool(self.nodes) and isinstance(self.nodes[-1].layer, behind))

    def _join(self, kind: type) -> None:
        first, second = self._source(), self.draw.one(self.values)
        if kind is ops.Divide:  # by nothing near zero
            second = self._put(ops.Softplus(1.0), self._put(TAME, second))
        if kind is ops.MatMul:
            axes = len(second.shape)
            second = self._put(ops.Permute((*range(axes - 2), axes - 1, axes - 2)), second)
        self._put(self._joint(kind, first), first, second)

    def _joint(self, kind: type, first: _Value) -> ops.Layer:
        if kind is ops.Concat:
            return ops.Concat(self.draw.whole(0, len(first.shape) - 1))
        if kind is ops.HandOver:
            return ops.HandOver(self.draw.real(0.0, 1.0), self.draw.real(-1.5, 1.5))
        joint: ops.Layer = kind()
        return joint


def grown(draw: Draw, layers: int, profile: Profile, steps: int, last: type, apart: bool) -> StateMachine:
    """A machine of about so many layers, the last of which is of a kind that is asked for, where it fits."""
    growing = Growing(draw, profile, steps)
    for _ in range(4 * layers):
        if len(growing.nodes) >= layers:
            break
        growing.grow(draw.one(profile.neurons if draw.whole(0, 4) == 0 else profile.kinds))
    growing.grow(last)
    if not growing.nodes:
        growing.begin()
    return growing.finished(apart)


def random_machine(seed: int | Sequence[int], layers: int = 9) -> StateMachine:
    """The machine of a seed, over the whole vocabulary: so many layers, and what joins them.

    The last kind is that of the seed, so that as many seeds as there are kinds have every kind.

    Args:
        seed: of the stream.
        layers: how many, about.
    """
    number = seed if isinstance(seed, int) else seed[-1]
    return grown(Draw(seed), layers, ALL, STEPS, ALL.kinds[number % len(ALL.kinds)], number % 3 == 0)
