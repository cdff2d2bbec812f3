"""What an op sees of one step besides its inputs, and where it puts what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from psu_deploy.machine.ops.fields import Array


class NeuronStep(NamedTuple):
    """What one neuron layer did in one step, each (B, *features); see `Trace`."""

    spikes: Tensor
    potential: Tensor
    reset: Tensor
    margin: Tensor
    estimate: Tensor


class Ranking(NamedTuple):
    """How clear it is which number of a step comes where, each (B, *features out).

    Attributes:
        open: whether rounding may exchange the number in this place and its nearest rival.
        gap: between the two in exact arithmetic.
        bound: how far rounding can move the gap.
    """

    open: Tensor
    gap: Tensor
    bound: Tensor


@dataclass
class Context:
    """One layer in one step of a run, or of the error bound of one.

    Attributes:
        tensor: makes a tensor of a constant, in the dtype and on the device of the run.
        state: role -> the layer's state before the step.
        step: the layer's own count of steps, from 0.
        name: of the layer.
        forced: what a neuron layer shall emit instead of its own decision, (B, *features). It still decides, and the
            margin shows how, but what it emits, and what its reset follows, is as told. None = what it decides.
        seen: E of a neuron layer in exact arithmetic, for the bounds of estimators that decide.
        exact: the layer's inputs in exact arithmetic, float64, for the bounds of layers that ask for it
            (`Layer.bound_sees_inputs`); () for any other.
        value: what the layer gives in exact arithmetic, float64, where a bound may see it.
        told: what a neuron layer does in exact arithmetic, where a bound may see it.
        binary: whether every number that goes in is 0 or 1.
        new_state: role -> state after the step; the layer puts it there.
        neuron: what a neuron layer did; it puts it there.
        ranking: how clear a layer that ranks numbers found them; its bound puts it there.
        margin_error: bound of the error of a neuron layer's margin, (B, *features); its bound puts it there.
    """

    tensor: Callable[[Array], Tensor]
    state: Mapping[str, Tensor]
    step: int
    name: str = ""
    forced: Tensor | None = None
    seen: Tensor | None = None
    exact: Sequence[Tensor] = ()
    value: Tensor | None = None
    told: NeuronStep | None = None
    binary: bool = False
    new_state: dict[str, Tensor] = field(default_factory=dict)
    neuron: NeuronStep | None = None
    ranking: Ranking | None = None
    margin_error: Tensor | None = None
