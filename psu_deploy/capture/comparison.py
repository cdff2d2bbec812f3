"""The machine that was written down, against a second run of the network."""

from __future__ import annotations

import torch
from torch import Tensor

from psu_deploy.capture.check import REMEDY, close
from psu_deploy.capture.nodes import alike
from psu_deploy.capture.recording import Recording
from psu_deploy.capture.values import ALWAYS, END, EVERY, Example, Value, as_batch
from psu_deploy.errors import Problem, UnsupportedModelError
from psu_deploy.machine import StateMachine
from psu_deploy.machine.reference import Interpreter
from psu_deploy.machine.schedule import INPUT

_ACTION = "turn the model into a state machine"

_NUMBERS = 2**28
"""Of state that a check may touch, over all steps; a learned T x T matrix keeps T numbers per neuron, at T steps."""


def check_same(first: StateMachine, second: StateMachine, recording: Recording) -> None:
    """Raise unless two runs gave one machine.

    Raises:
        UnsupportedModelError: naming the first layer that differs.
    """
    if first.content_hash == second.content_hash:
        return
    for one, other in zip(first.nodes, second.nodes, strict=False):
        if (one.name, one.inputs) != (other.name, other.inputs) or not alike(one.layer, other.layer):
            raise _problem(
                other.name,
                type(other.layer).__name__,
                recording,
                "is another layer for another input: a number in it comes from the values or from the sizes T, B of x, "
                "or from chance",
                "use constants and parameters; x.mean(0) for a mean over time",
            )
    raise _problem("forward", "forward", recording, "is another network for another input", "branch on nothing in x")


def check_whole(machine: StateMachine, recording: Recording, x: Tensor) -> None:
    """Raise unless every layer of the machine, fed step by step, gives what it gave in the network.

    The neuron layers emit in both what they were made to emit in the network.

    Raises:
        UnsupportedModelError: naming the first layer that does not.
    """
    example = recording.example
    steps = _affordable(machine, example)
    interpreter = Interpreter(machine, x.dtype, x.device)
    state = {name: tensor.to(x.device) for name, tensor in _start(machine, example.batch, x.dtype).items()}
    spikes = {name: _sequence(recording.nodes.spikes[name], example) for name in machine.spiking}
    found: dict[str, list[Tensor]] = {name: [] for name in machine.shapes if name != INPUT}
    for t in range(min(steps, example.steps) + machine.latency):
        x_t = (x if example.image else x[t]) if t < example.steps else torch.zeros_like(x[0])
        forced = {n: _at(s, t - machine.latencies[n]) for n, s in spikes.items()}
        done = interpreter.walk(x_t, state, forced)
        state = done.state
        for name in found:
            found[name].append(done.values[name])
    own_of = {name: torch.stack(found[name][machine.latencies[name] :]) for name in found}
    own_of[INPUT] = x.expand(example.steps, *x.shape) if example.image else x
    for node in machine.nodes:
        own = own_of[node.name]
        values = recording.nodes.seen.get(node.name, [])
        if values and node.name not in machine.once and not _agrees(values, own, steps, example, node.name in spikes):
            kind = type(node.layer).__name__
            raise _problem(node.name, kind, recording, f"does not compute what {kind} computes", REMEDY)
    for claim in recording.nodes.claims:
        if claim.node not in machine.once and not _holds(claim, own_of[claim.node], steps, example):
            kind = type(recording.nodes[claim.node].layer).__name__ if claim.node != INPUT else "input"
            reason = "is read with other numbers than the layer computes, or with the same in other places"
            raise _problem(claim.node, kind, recording, reason, "leave the tensor as it is: no changes in place")


def _affordable(machine: StateMachine, example: Example) -> int:
    numbers = example.batch * sum(_size(t.shape) for t in machine.state_spec.values())
    return max(2, min(example.steps, _NUMBERS // max(1, numbers)))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


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


def _agrees(values: list[Value], own: Tensor, steps: int, example: Example, spiking: bool) -> bool:
    """Whether a layer's values are those of the network; spikes are given, and what was overwritten is unknown."""
    when = values[0].when
    if spiking or when == ALWAYS or any(value.overwritten for value in values):
        return True
    if when == END:
        if steps < example.steps:
            return True
        expected = as_batch(values[0], example, along_time=False)
        return close(own[example.steps - 1], expected)
    expected = _sequence(values, example)[: min(steps, len(own))]
    return close(own[: len(expected)], expected.to(own))


def _holds(claim: Value, own: Tensor, steps: int, example: Example) -> bool:
    """Whether a tensor holds what its node computes; of some steps only, or overwritten since, it says nothing."""
    single = isinstance(claim.when, range) and len(claim.when) == 1
    if claim.overwritten or claim.span != (0, 0) or not (single or claim.when in (END, EVERY)):
        return True
    if claim.when == EVERY:
        return _agrees([claim], own, steps, example, spiking=False)
    at = claim.when.start if isinstance(claim.when, range) else example.steps - 1
    numbers = as_batch(claim, example, along_time=False)
    return at >= min(steps, len(own)) or close(own[at], numbers.to(own))


def _problem(name: str, kind: str, recording: Recording, reason: str, remedy: str) -> UnsupportedModelError:
    where = recording.nodes.where.get(name, "")
    path = f"forward ({where})" if "()" in name else name
    return UnsupportedModelError([Problem(path, kind, reason, remedy)], _ACTION)
