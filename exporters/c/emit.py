"""State machine -> one step of it in C: a function for every layer, and one that calls them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod

from psu_deploy.errors import Problem, Refusal, UnsupportedModelError
from psu_deploy.exporters.c.lower import RULES, check
from psu_deploy.exporters.c.names import Names, in_comment
from psu_deploy.exporters.c.numbers import Numbers
from psu_deploy.exporters.c.pool import Pool
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.ops.fields import LARGEST
from psu_deploy.machine.schedule import INPUT, STEP, Turn, state_name


@dataclass(frozen=True)
class Member:
    """One tensor of state in the struct.

    Attributes:
        name: of the tensor, as in `StateMachine.state_spec`.
        ident: of the member.
        shape: per sample.
    """

    name: str
    ident: str
    shape: tuple[int, ...]


@dataclass
class Emitted:
    """A network in C, before it is files.

    Attributes:
        prefix: of all names.
        mapped: whether its numbers lie in a file of their own.
        horizon: steps the network is defined for; None = any number.
        counts: whether there is a step counter.
        members: the state.
        numbered: whether a state knows which sample it belongs to.
        neurons: neuron layer -> what it is called, in network order.
        sizes: neuron layer -> number of neurons.
        constants: name -> numbers.
        functions: of the layers, as text.
        helpers: functions of `text/` that they call.
        calls: lines of the function that takes a step.
        values: numbers of room for what lies between layers.
        active: places of room for what is not zero.
    """

    prefix: str
    mapped: bool = False
    horizon: int | None = None
    counts: bool = False
    members: list[Member] = field(default_factory=list)
    numbered: bool = False
    neurons: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    constants: dict[str, Numbers] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    helpers: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    values: int = 1
    active: int = 1


def emit(machine: StateMachine, prefix: str, *, mapped: bool = False) -> Emitted:
    """Write one step of a machine down.

    Args:
        machine: what to emit.
        prefix: of all names.
        mapped: whether its numbers lie in a file of their own.

    Raises:
        UnsupportedModelError: listing every kind without a rule, or the layer that C has no numbers for.
    """
    check(machine)
    return _Walk(machine, Emitted(prefix, mapped, machine.horizon, STEP in machine.state_spec)).emitted


class _Walk:
    """The network under construction, layer by layer."""

    def __init__(self, machine: StateMachine, emitted: Emitted) -> None:
        self._machine = machine
        self.emitted = emitted
        self._globals, self._idents = Names(), Names("step", "sample", "weights", "work", "trace")
        self._pool = Pool()
        self._pointers = {INPUT: "x"}
        self._parts: dict[str, int] = {}
        self._roots = _roots(machine)
        self._direct = self._written_at_once()
        last = _last_readers(machine, self._roots)
        for turn, node in zip(machine.schedule, machine.nodes, strict=True):
            with _refused_at(node):
                self._layer(turn)
            for root in last.get(node.name, ()):
                if root in self._parts:
                    self._pool.give_back(self._parts[root])
        self._outputs()
        self.emitted.values = max(1, self._pool.size)

    def _written_at_once(self) -> str:
        """The layer that writes the only output into the caller's own memory; "" = none does."""
        machine = self._machine
        root = self._roots[machine.output]
        return "" if root == INPUT or isinstance(machine.end.layer, ops.Outputs) else root

    def _layer(self, turn: Turn) -> None:
        layer = turn.layer
        if self._roots[turn.name] != turn.name:
            self._pointers[turn.name] = self._pointers[turn.inputs[0]]
        elif type(layer) in RULES:
            scope = self._scope(turn)
            RULES[type(layer)](layer, scope)
            self._finish(turn, scope)

    def _scope(self, turn: Turn) -> Scope:
        machine, emitted = self._machine, self.emitted
        ident = self._idents.unique(turn.name)
        members = {}
        for role in turn.states:
            name = state_name(turn.name, role)
            members[role] = self._idents.unique(f"{ident}_{role}")
            emitted.members.append(Member(name, members[role], machine.state_spec[name].shape))
        self._own: list[int] = []
        shapes = tuple(machine.shapes[name] for name in turn.inputs)
        states = (machine.state_spec[state_name(turn.name, role)].shape for role in members)
        for shape in (*shapes, turn.shape, *states):
            _check_counted(prod(shape))
        return Scope(emitted.prefix, ident, shapes, turn.shape, members, self._globals, emitted.mapped, self._part)

    def _part(self, count: int) -> int:
        _check_counted(count)
        self._own.append(self._pool.take(count))
        return self._own[-1]

    def _finish(self, turn: Turn, scope: Scope) -> None:
        emitted, size = self.emitted, prod(turn.shape)
        self._pointers[turn.name] = "y" if turn.name == self._direct else self._value(turn, scope.ident, size)
        for start in self._own:
            self._pool.give_back(start)
        emitted.constants |= scope.constants
        emitted.helpers += scope.helpers
        emitted.active = max(emitted.active, scope.active)
        emitted.numbered |= scope.numbered
        if scope.neuron:
            emitted.neurons[turn.name], emitted.sizes[turn.name] = scope.ident, size
        function = self._globals.unique(f"{emitted.prefix}_layer_{scope.ident}")
        emitted.functions.append(_function(function, turn, scope))
        self._call(turn, function, scope, size)

    def _value(self, turn: Turn, ident: str, size: int) -> str:
        """Room for what a layer gives. It is taken while the layer's own room is: both are used at once."""
        self._parts[turn.name] = start = self._pool.take(size)
        name = f"out_{ident}"
        self.emitted.calls.append(f"float *const {name} = w->values + {start}; /* {turn.shape} */")
        return name

    def _call(self, turn: Turn, function: str, scope: Scope, size: int) -> None:
        y = self._pointers[turn.name]
        given = {"s": "s", "w": "w", "t": f"t - {turn.start}" if turn.start else "t"}
        own = [given[name] for name in _PARAMETERS if name in scope.reads]
        call = f"{function}({', '.join([*own, *(self._pointers[name] for name in turn.inputs), y])});"
        silence = f"memset({y}, 0, {size} * sizeof *{y});"
        if turn.once:
            self.emitted.calls += [f"if (t == {turn.start}) {{ /* once: what is held reads it */", f"    {call}", "}"]
            return
        if turn.start and turn.start == turn.answers:
            head = f"if (t >= {turn.start}) {{ /* its first input arrives then */"
            self.emitted.calls += [head, f"    {call}", "} else {", f"    {silence}", "}"]
            return
        if turn.start:
            call = f"if (t >= {turn.start}) {{ /* its first input arrives then */\n    {call}\n}}"
        self.emitted.calls += call.split("\n")
        if turn.answers:
            self.emitted.calls += [f"if (t < {turn.answers}) {{ /* no answer yet */", f"    {silence}", "}"]

    def _outputs(self) -> None:
        """What does not lie in the caller's memory yet is copied there."""
        machine, start = self._machine, 0
        if self._direct:
            return
        for name, source in machine.sources.items():
            size = prod(machine.shapes[source])
            said = "" if len(machine.sources) == 1 else f" /* {in_comment(name)} */"
            self.emitted.calls.append(f"memcpy(y + {start}, {self._pointers[source]}, {size} * sizeof *y);{said}")
            start += size


_PARAMETERS = {"s": "{prefix}_state *s", "w": "{prefix}_work *w", "t": "int64_t t"}
"""What a layer's function may ask for beside its inputs and its output."""


def _function(name: str, turn: Turn, scope: Scope) -> str:
    """The text of a layer's function, its equation above it."""
    inputs = [f"const float *restrict {x}" for x in scope.inputs]
    own = [_PARAMETERS[key].format(prefix=scope.prefix) for key in _PARAMETERS if key in scope.reads]
    shapes = ", ".join(str(shape) for shape in scope.shapes)
    head = [f"{in_comment(turn.name)}: {type(turn.layer).__name__}, {shapes} -> {turn.shape}", *scope.says]
    comment = "\n   ".join(in_comment(line) for line in head)
    signature = f"static void {name}({', '.join([*own, *inputs, 'float *restrict y'])})"
    return "\n".join([f"/* {comment} */", f"{signature} {{", *scope.lines, "}"])


def _roots(machine: StateMachine) -> dict[str, str]:
    """Name -> the layer, or "x", whose numbers it hands on under another shape: itself for all that computes."""
    roots = {INPUT: INPUT}
    for node in machine.nodes:
        same = type(node.layer) not in RULES and not isinstance(node.layer, ops.Outputs)
        roots[node.name] = roots[node.inputs[0]] if same else node.name
    return roots


def _last_readers(machine: StateMachine, roots: dict[str, str]) -> dict[str, list[str]]:
    """Layer -> the layers that nobody reads any more once it has run. What is an output is read to the end."""
    kept = {roots[source] for source in machine.sources.values()}
    last = {roots[node.name]: node.name for node in machine.nodes}  # what nobody reads goes when it has come
    for node in machine.nodes:
        last |= {roots[name]: node.name for name in node.inputs}
    found: dict[str, list[str]] = {}
    for root, reader in last.items():
        if root not in kept:
            found.setdefault(reader, []).append(root)
    return found


def _check_counted(count: int) -> None:
    if count > LARGEST:
        raise Refusal(
            f"it reads, keeps or gives {count:,} numbers at once, more than an int of C counts",
            "make the layer smaller",
        )


@contextmanager
def _refused_at(node: Node) -> Iterator[None]:
    """A refusal gets its place."""
    try:
        yield
    except Refusal as error:
        problem = Problem(node.name, type(node.layer).__name__, error.reason, error.remedy)
        raise UnsupportedModelError([problem], "export the network to C") from error
