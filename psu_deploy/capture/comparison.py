"""The machine that was written down, against a second run of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from psu_deploy.capture.check import REMEDY, Distance
from psu_deploy.capture.nodes import alike
from psu_deploy.capture.recording import Recording
from psu_deploy.capture.steps import single
from psu_deploy.capture.values import ALWAYS, END, EVERY, Example, Value, as_batch
from psu_deploy.errors import Problem, UnsupportedModelError
from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.reference import Interpreter
from psu_deploy.machine.schedule import INPUT, layer_and_role

_ACTION = "turn the model into a state machine"

_NUMBERS = 2**28
"""Of state that a check may touch, over all steps; a learned T x T matrix keeps T numbers per neuron, at T steps."""


class AnotherNetworkError(UnsupportedModelError):
    """Two inputs of sizes that a network runs on are two networks to it."""


def check_same(first: StateMachine, second: StateMachine, recording: Recording) -> None:
    """Raise unless two runs gave one machine.

    Raises:
        AnotherNetworkError: naming the first layer that differs.
    """
    for one, other in zip(first.nodes, second.nodes, strict=False):
        if (one.name, one.inputs) != (other.name, other.inputs) or not alike(one.layer, other.layer):
            raise _another(
                other.name,
                type(other.layer).__name__,
                recording,
                "is another layer for another input: a number in it comes from the values or from the sizes T, B of x, "
                "or from chance",
                "use constants and parameters; x.mean(0) for a mean over time",
            )
    if (len(first.nodes), first.output) == (len(second.nodes), second.output):
        return
    raise _another("forward", "forward", recording, "is another network for another input", "branch on nothing in x")


def check_whole(machine: StateMachine, recording: Recording, x: Tensor) -> None:
    """Raise unless every layer of the machine, fed step by step, gives what it gave in the network.

    The neuron layers emit in both what they were made to emit in the network, and nothing else of them is run.

    Raises:
        UnsupportedModelError: naming the first layer that does not.
    """
    example = recording.example
    steps = min(_affordable(machine, example), example.steps)
    claims = list(_claims(machine, recording, steps))
    interpreter = Interpreter(machine, x.dtype, x.device)
    state = {name: tensor.to(x.device) for name, tensor in _start(machine, example.batch, x.dtype).items()}
    spikes = {name: _sequence(recording.nodes.spikes[name], example) for name in machine.spiking}
    for t in range(steps + machine.latency):
        x_t = (x if example.image else x[t]) if t < example.steps else torch.zeros_like(x[0])
        forced = {n: _at(s, t - machine.latencies[n]) for n, s in spikes.items()}
        done = interpreter.walk(x_t, state, forced, _visit)
        state = done.state
        for claim in claims:
            claim.hold_against(done.values[claim.node], t - machine.latencies[claim.node])
    wrong = next((claim for claim in claims if not claim.distance.is_close), None)
    if wrong is not None:
        kind = "input" if wrong.node == INPUT else type(recording.nodes[wrong.node].layer).__name__
        reason, remedy = (_COMPUTES.format(kind), REMEDY) if wrong.computed else _READ
        raise _problem(wrong.node, kind, recording, reason, remedy)


def _visit(layer: ops.Layer, inputs: list[Tensor], context: Context) -> Tensor:
    """Run a layer; of a neuron layer, which was told what to emit, that."""
    if context.forced is None:
        return layer.step(inputs, context)
    context.new_state = dict(context.state)
    return context.forced


_COMPUTES = "does not compute what {} computes"

_READ = (
    "is read with other numbers than the layer computes, or with the same in other places",
    "leave the tensor as it is: no changes in place",
)


def _affordable(machine: StateMachine, example: Example) -> int:
    own = (t.shape for name, t in machine.state_spec.items() if layer_and_role(name)[0] not in machine.spiking)
    return max(2, min(example.steps, _NUMBERS // max(1, example.batch * sum(map(prod, own)))))


def _start(machine: StateMachine, batch: int, dtype: torch.dtype) -> dict[str, Tensor]:
    start = machine.initial_state(batch, "float64" if dtype == torch.float64 else "float32")
    return {name: torch.as_tensor(value) for name, value in start.items()}


def _at(spikes: Tensor, t: int) -> Tensor:
    return spikes[t] if 0 <= t < len(spikes) else torch.zeros_like(spikes[0])


def _sequence(values: list[Value], example: Example) -> Tensor:
    """(T, B, *features) of what a layer gave: all steps at once, or one after the other."""
    if values[0].when == EVERY:
        flat = as_batch(values[0], example, along_time=True)
        return flat.reshape(example.steps, example.batch, *flat.shape[1:])
    return torch.stack([as_batch(value, example, along_time=False) for value in values])


@dataclass
class _Claim:
    """What a layer is said to give.

    Args:
        node: its name.
        rows: (B, *features) of every step from the first on.
        first: step that the first row is of.
        computed: whether the layer gave these numbers, or somebody who reads it came across them.
    """

    node: str
    rows: Sequence[Tensor] | Tensor
    first: int
    computed: bool

    def __post_init__(self) -> None:
        self.distance = Distance(self.rows)

    def hold_against(self, own: Tensor, step: int) -> None:
        """Compare with what the machine gives at a step."""
        if 0 <= step - self.first < len(self.rows):
            self.distance.add(own, self.rows[step - self.first].to(own))


def _claims(machine: StateMachine, recording: Recording, steps: int) -> Iterator[_Claim]:
    """All that can be held against the machine in so many steps; what the layers gave, before what others read.

    Spikes are given, what was overwritten is unknown, and a reader of some of the steps says nothing. What runs once
    is compared once.
    """
    example, nodes = recording.example, recording.nodes
    known: set[object] = set()

    def until(name: str) -> int:
        return 1 if name in machine.once else steps

    for name in (node.name for node in machine.nodes if node.name in nodes.seen and node.name not in nodes.spikes):
        values = nodes.seen[name]
        if not any(value.overwritten for value in values):
            whole = values if isinstance(values[0].when, range) else values[:1]
            known.update(_memory(v) for t, v in enumerate(whole) if not isinstance(v.when, range) or v.when.start == t)
            yield from _claim(name, values, example, until(name), computed=True)
    for value in nodes.claims:
        if _memory(value) not in known and not value.overwritten and value.span == (0, 0):
            known.add(_memory(value))
            yield from _claim(value.node, [value], example, until(value.node), computed=False)


def _memory(value: Value) -> object:
    """Where a value lies and what it is taken for: of two that agree in it one look is enough."""
    tensor = value.tensor
    return value.node, value.when, value.axes, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _claim(name: str, values: list[Value], example: Example, steps: int, *, computed: bool) -> Iterator[_Claim]:
    when = values[0].when
    if when == EVERY or (computed and isinstance(when, range)):
        yield _Claim(name, _sequence(values, example)[:steps], 0, computed)
        return
    step = {ALWAYS: 0, END: example.steps - 1}.get(when) if isinstance(when, str) else single(values[0])
    if step is not None and step < steps:
        yield _Claim(name, [as_batch(values[0], example, along_time=False)], step, computed)


def _another(name: str, kind: str, recording: Recording, reason: str, remedy: str) -> AnotherNetworkError:
    return AnotherNetworkError(_problem(name, kind, recording, reason, remedy).problems, _ACTION)


def _problem(name: str, kind: str, recording: Recording, reason: str, remedy: str) -> UnsupportedModelError:
    where = recording.nodes.where.get(name, "")
    path = f"forward ({where})" if "()" in name else name
    return UnsupportedModelError([Problem(path, kind, reason, remedy)], _ACTION)
