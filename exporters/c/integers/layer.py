"""One layer of an integer network while its function is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np

from psu_deploy.exporters.c.names import Names
from psu_deploy.exporters.integers.network import Conv, IntegerLayer, Integers

_WIDTHS = (np.int8, np.int16, np.int32)

UNITY = 4096
"""One, as a decay or a factor."""


@dataclass
class Layer:
    """What a rule may ask for and say.

    Attributes:
        layer: in whole numbers.
        prefix: of all names.
        ident: of the layer in C.
        features_in: of what it reads, (n,) or (C, H, W).
        names: of everything that is not in a struct.
        constants: name -> numbers, for `net_weights.c`.
        members: name in the struct -> how many numbers.
        helpers: functions of `text/` that it calls.
        equations: for the comment above the function.
        before: lines before the loop over neurons.
        loops: over neurons, those that are whole.
        lines: of the loop over neurons that is being written.
        after: lines behind it.
        looks_up: whether it needs room for estimated spikes.
    """

    layer: IntegerLayer
    prefix: str
    ident: str
    features_in: tuple[int, ...]
    names: Names
    constants: dict[str, Integers] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)
    helpers: list[str] = field(default_factory=list)
    equations: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    loops: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    looks_up: bool = False

    def __post_init__(self) -> None:
        self.function = self.names.unique(f"{self.prefix}_layer_{self.ident}")
        """Its name."""
        self.seen = f"{self.ident}_sent"
        """The member of the trace; a layer may be called `int`."""

    @property
    def size(self) -> int:
        """Number of neurons."""
        return prod(self.layer.shape)

    @property
    def channels(self) -> int:
        return self.layer.shape[0]

    @property
    def channel_last(self) -> bool:
        """Whether the sums lie by place, then by channel."""
        return isinstance(self.layer.synapse, Conv) and self.size != self.channels

    @property
    def room(self) -> str:
        """The number of a neuron in `w->sums`: its weighted sum, and from there on whatever the layer keeps in it."""
        return f"room[{f'p * {self.channels} + c' if self.channel_last else 'i'}]"

    def next_loop(self) -> None:
        """What is written from here on is another loop: a compiler makes vectors of one that has no branches."""
        self.loops.append(self.lines)
        self.lines = []

    def use(self, helper: str) -> str:
        """The name of a function of `text/`, which will be in the file."""
        if helper not in self.helpers:
            self.helpers.append(helper)
        return f"{self.prefix}_{helper}"

    def saturate(self, expression: str) -> str:
        return f"{self.use('saturate')}({expression})"

    def multiply(self, expression: str, factor: int | str) -> str:
        """`expression*factor / 4096`, towards zero."""
        if factor == UNITY:
            return expression
        return f"{self.use('multiply')}({expression}, {factor if isinstance(factor, str) else literal(factor)})"

    def decayed(self, state: str, decay: int, more: str) -> str:
        """`saturate(state*decay / 4096 + more)`; decay 0 forgets."""
        return self.saturate(f"{self.multiply(state, decay)} + {more}" if decay else more)

    def step(self) -> str:
        """The number of the step, from 0."""
        line = "const int32_t t = (int32_t)s->step;"
        if line not in self.before:
            self.before.append(line)
        return "t"

    def constant(self, values: Integers, role: str) -> str:
        """The name of an array."""
        name = self.names.unique(f"{self.prefix}_{self.ident}_{role}")
        self.constants[name] = smallest(values)
        return name

    def of_channel(self, values: Integers, role: str) -> str:
        """A number per channel: one number where it is the same for all."""
        if (values == values[0]).all():
            return literal(int(values[0]))
        return f"{self.constant(values, role)}[{'i' if self.size == self.channels else 'c'}]"

    def state(self, role: str, count: int = 1) -> str:
        """The name of a member of the struct, `count` numbers for every neuron."""
        name = f"{self.ident}_{role}"
        self.members[name] = count * self.size
        self.before.append(f"int32_t *restrict const {role} = s->{name};")
        return role


Rule = Callable[[Layer], None]


def literal(value: int) -> str:
    """One number, in brackets where it has a sign."""
    return str(value) if value >= 0 else f"({value})"


def plus(expression: str, constant: str) -> str:
    """A sum; nothing is added where it is nothing."""
    return expression if constant == "0" else f"{expression} + {constant}"


def smallest(values: Integers) -> Integers:
    """The same numbers in as few bytes as they need."""
    kind = next(kind for kind in _WIDTHS if np.array_equal(values.astype(kind), values))
    return values.astype(kind)


def share(factor: int) -> str:
    """A factor as an equation shows it, before what it stands for."""
    return "" if factor == UNITY else f"{factor}/{UNITY} "
