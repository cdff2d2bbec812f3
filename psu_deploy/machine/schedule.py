"""When a layer runs: what a late start, an answer that is not there yet, and `Hold` mean, in one place.

A network's own step counter runs from 0. A layer behind one that looks ahead starts late, when its first input arrives:
until then its state stays as it is and its output is zero. One that looks ahead itself has its first answer later
still, and what it says before is zero. A layer that only `Hold` reads runs in its first step and never again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.machine.ops.layer import Layer

INPUT = "x"
OUTPUT = "y"
STEP = "step"


def state_name(layer: str, role: str) -> str:
    """Name of a state tensor: that of the layer, and its role in it."""
    return f"{layer}.{role}"


def layer_and_role(name: str) -> tuple[str, str]:
    """The other way; the layer of what is no state of a layer is ""."""
    layer, _, role = name.rpartition(".")
    return layer, role


@dataclass(frozen=True)
class Turn:
    """One layer's turn in every step.

    Attributes:
        name: of the layer.
        layer: what it computes.
        inputs: names of the values it reads.
        states: role -> name of each of its state tensors.
        shape: features it gives.
        start: the step at which its first input arrives.
        answers: the step of its first answer.
        once: whether it runs in its first step only.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    states: Mapping[str, str]
    shape: Shape
    start: int
    answers: int
    once: bool

    def runs(self, step: int) -> bool:
        """Whether the layer has something to do in a step of the network."""
        return step == self.start if self.once else step >= self.start


@dataclass(frozen=True)
class Walked:
    """One step of the whole network.

    Attributes:
        values: name of every layer, and `"x"`, -> its output.
        state: the next one.
        contexts: layer -> what it put there; not those that did not run.
    """

    values: dict[str, Tensor]
    state: dict[str, Tensor]
    contexts: dict[str, Context]


def walk(
    schedule: Sequence[Turn],
    x: Tensor,
    state: Mapping[str, Tensor],
    visit: Callable[[Layer, list[Tensor], Context], Tensor],
    context: Callable[[str], dict[str, Any]],
    tensor: Callable[[Any], Tensor],
) -> Walked:
    """Take one step.

    Args:
        schedule: of the graph.
        x: input, (B, *features), or what stands for it.
        state: name -> tensor.
        visit: (layer, its inputs, its context) -> its output.
        context: name of a layer -> what else its context holds.
        tensor: makes a tensor of a constant.
    """
    now = int(state[STEP]) if STEP in state else 0
    values, contexts = {INPUT: x}, {}
    following = {STEP: state[STEP] + 1} if STEP in state else {}
    for turn in schedule:
        before = {role: state[name] for role, name in turn.states.items()}
        if turn.runs(now):
            own = Context(tensor, before, now - turn.start, turn.name, **context(turn.name))
            value = visit(turn.layer, [values[name] for name in turn.inputs], own)
            values[turn.name] = value if now >= turn.answers else torch.zeros_like(value)
            contexts[turn.name], before = own, own.new_state
        else:
            values[turn.name] = x.new_zeros(len(x), *turn.shape)
        for role, name in turn.states.items():
            following[name] = before[role]
    return Walked(values, following, contexts)
