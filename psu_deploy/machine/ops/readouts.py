"""What a decoder makes of the steps so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from psu_deploy.machine.ops.along_time import check_steps
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.fields import Shape, one_of
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff

__all__ = ["MeanOfLast", "Readout"]


@op
class Readout(Layer):
    """What the decoder says after every step: the running value of a reduction over time.

    Args:
        kind: of steps 0..t `"mean"` or `"sum"` (state `sum`), `"max"` or `"min"` (state `best`), or `"last"`, the step
            itself. The value after the last step is the reduction over the whole sequence.
    """

    kind: str

    along_time = True

    def __post_init__(self) -> None:
        one_of(self, "kind", ("mean", "sum", "max", "min", "last"))

    @property
    def uses_step(self) -> bool:
        return self.kind not in ("sum", "last")

    @property
    def keeps_spikes(self) -> bool:
        return self.kind in ("max", "min")

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        if self.kind == "last":
            return {}
        return {"best" if self.keeps_spikes else "sum": inputs[0]}

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        if self.kind == "last":
            return inputs[0]
        if self.keeps_spikes:
            return self._best(torch.maximum if self.kind == "max" else torch.minimum, inputs[0], context)
        total = context.state["sum"] + inputs[0]
        context.new_state["sum"] = total
        return total / (context.step + 1) if self.kind == "mean" else total

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """An extreme value is as large, and as far off, as the largest and the worst of all at most."""
        if self.keeps_spikes:
            return self._best(torch.maximum, inputs[0], context)
        steps = context.step + 1
        return self._sum_error(inputs, context, roundoff, steps, divisor=steps if self.kind == "mean" else 1)

    def _best(self, better: Callable[[Tensor, Tensor], Tensor], x: Tensor, context: Context) -> Tensor:
        best = better(context.state["best"], x) if context.step else x
        context.new_state["best"] = best
        return best


@op
class MeanOfLast(Layer):
    """Mean of the last `steps` steps, at the beginning of as many as there are.

        y[t] = (x[t-k+1] + ... + x[t]) / min(t + 1, k)

    State `buffer`: (B, k-1, *features), oldest first; none for k = 1.

    Args:
        steps: k, at least 1.
    """

    steps: int

    along_time = True

    def __post_init__(self) -> None:
        check_steps(self)

    @property
    def uses_step(self) -> bool:
        return self.steps > 1

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"buffer": (self.steps - 1, *inputs[0])} if self.steps > 1 else {}

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        if self.steps == 1:
            return inputs[0]
        window = torch.cat([context.state["buffer"], inputs[0][:, None]], dim=1)
        context.new_state["buffer"] = window[:, 1:]
        return window.sum(1) / min(context.step + 1, self.steps)

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        return self._sum_error(inputs, context, roundoff, self.steps, divisor=self.steps)
