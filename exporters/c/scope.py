"""What a layer sees while it is lowered: names for its inputs, its output, its numbers and its state in C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.c.names import Names
from psu_deploy.exporters.c.numbers import Numbers, single
from psu_deploy.machine.ops.fields import LARGEST, Shape


@dataclass
class Scope:
    """One layer's function in C, under construction. What it is given as parameters is what its rule asks for.

    Args:
        prefix: of all names of the network.
        ident: the layer's name in C.
        shapes: of every input.
        shape: of the output.
        members: role -> name of the layer's state in the struct.
        names: gives identifiers.
        mapped: whether constants lie in a file of their own, which the state points to.
        part: finds room for so many numbers as long as the layer runs; returns where they start.
    """

    prefix: str
    ident: str
    shapes: tuple[Shape, ...]
    shape: Shape
    members: dict[str, str]
    names: Names
    mapped: bool
    part: Callable[[int], int]
    says: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    constants: dict[str, Numbers] = field(default_factory=dict)
    helpers: list[str] = field(default_factory=list)
    active: int = 0
    numbered: bool = False
    neuron: bool = False
    reads: set[str] = field(default_factory=set)
    _indent: int = 1

    @property
    def features(self) -> Shape:
        """Shape of its (first) input."""
        return self.shapes[0]

    @property
    def size(self) -> int:
        """Numbers of its (first) input."""
        return prod(self.shapes[0])

    @property
    def inputs(self) -> tuple[str, ...]:
        """What its inputs are called."""
        return ("x",) if len(self.shapes) == 1 else tuple(f"x{i}" for i in range(len(self.shapes)))

    def say(self, *lines: str) -> None:
        """What the layer computes, for the comment above it."""
        self.says += lines

    def line(self, *lines: str) -> None:
        """Statements."""
        self.lines += [f"{'    ' * self._indent}{line}" for line in lines]

    def open(self, head: str) -> None:
        """A statement that begins a block."""
        self.line(f"{head} {{")
        self._indent += 1

    def close(self, count: int = 1) -> None:
        """The end of a block, or of so many."""
        for _ in range(count):
            self._indent -= 1
            self.line("}")

    def count(self, index: str, size: int) -> None:
        """The beginning of a loop over `index` from 0."""
        self.open(f"for (int {index} = 0; {index} < {size}; {index}++)")

    def constant(self, array: Any, role: str) -> str:
        """Numbers that never change; their name."""
        values = single(array)
        if values.size > LARGEST:
            raise Refusal(f"it has {values.size:,} numbers, more than an int of C counts", "make the layer smaller")
        name = self.names.unique(f"{self.prefix}_layer_{self.ident}_{role}")
        self.constants[name] = values
        if self.mapped:
            self.reads.add("s")
        return name

    def integers(self, values: Sequence[int], role: str) -> str:
        """Whole numbers that never change; their name."""
        name = self.names.unique(f"{self.prefix}_layer_{self.ident}_{role}")
        self.constants[name] = np.asarray(values, dtype=np.int32)
        return name

    def state(self, role: str) -> str:
        """The layer's state before this step, a pointer; what is written there is the state after it."""
        self.reads.add("s")
        return f"s->{self.members[role]}"

    def step(self) -> str:
        """The layer's own count of steps, from 0, int64_t."""
        self.reads.add("t")
        return "t"

    def sample(self) -> str:
        """Number of the sample in its batch, int64_t."""
        self.reads.add("s")
        self.numbered = True
        return "s->sample"

    def see(self, potential: str, reset: str, margin: str) -> None:
        """What neuron i has done, for whoever traces it; no code otherwise."""
        self.reads.add("s")
        self.neuron = True
        self.line(f"{self.prefix.upper()}_SEE({self.ident}, {potential}, {reset}, {margin});")

    def room(self, name: str, count: int) -> str:
        """A pointer to so many numbers that need not last, declared under a name."""
        self.reads.add("w")
        self.line(f"float *restrict {name} = w->values + {self.part(count)};")
        return name

    def list_of_active(self, count: int) -> str:
        """Room for the places of so many numbers that are not zero."""
        self.reads.add("w")
        self.active = max(self.active, count)
        return "w->active"

    def use(self, helper: str) -> str:
        """The name of a function of `text/`; it will be there."""
        self.helpers.append(helper)
        return f"{self.prefix}_{helper}"
