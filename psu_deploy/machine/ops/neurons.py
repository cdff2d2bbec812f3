"""The neuron layers of a state machine: whatever emits spikes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.context import Context, NeuronStep
from psu_deploy.machine.ops.estimators import Estimator
from psu_deploy.machine.ops.fields import Shape, finite, kind_of, one_of
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.operators import CausalOperator, StrictLeak
from psu_deploy.machine.ops.registry import op
from psu_deploy.machine.ops.roundoff import Roundoff
from psu_deploy.numerics.noise import uniform

__all__ = ["BernoulliNeuron", "LIFNeuron", "Neuron", "SpikingNeuron"]


class Neuron(Layer):
    """Base of the neuron layers: spikes 0.0 or 1.0 out, one for every current in."""

    along_time = True

    @property
    def potential_slope(self) -> float:
        """How far V can be off where the margin is off by one at most."""
        return 1.0

    def error(self, inputs: Sequence[Tensor], context: Context, roundoff: Roundoff) -> Tensor:
        """The bound of the margin goes into the context. Spikes are exact: what was emitted comes out.

        Where the roundoff knows no other run than the exact one, a spike that may come out differently is off by one.
        """
        assert context.forced is not None, f"the bound of layer {context.name!r} is that of spikes it emitted"
        context.margin_error = self._margin_error(inputs[0], context, roundoff)
        return roundoff.emitted(context)

    @abstractmethod
    def _margin_error(self, current: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        """Bound of the error of the margin, (B, *features), given the pair of the current."""


@op
class SpikingNeuron(Neuron):
    """A neuron layer.

        V = integrate(I)
        E = estimate(I)                 V itself where estimate is None
        R = reset(estimator(E))         0 where reset is None
        S = 1 if V - R - threshold >= 0 (or > 0) else 0

    State: `V`, `E`, `R`, that of the three operators, where they have any.

    Args:
        integrate: what makes the membrane potential of the input current.
        estimate: what the spike estimate looks through; None = it looks at V.
        estimator: the pointwise function that estimates the spike.
        reset: a strictly causal operator; None = no reset.
        threshold: V_th.
        fire_on: ">=" or ">".
    """

    integrate: CausalOperator
    estimate: CausalOperator | None
    estimator: Estimator
    reset: CausalOperator | None
    threshold: float
    fire_on: str

    def __post_init__(self) -> None:
        finite(self, "threshold")
        one_of(self, "fire_on", (">=", ">"))
        kind_of(self, "integrate", CausalOperator)
        kind_of(self, "estimate", CausalOperator | None)
        kind_of(self, "reset", CausalOperator | None)
        kind_of(self, "estimator", Estimator)
        if self.estimate is not None and self.reset is None:
            raise InputError("SpikingNeuron has an estimate but no reset to feed it to")
        if self.reset is not None and not self.reset.strict:
            raise InputError("SpikingNeuron.reset must be strictly causal: R of a step sees earlier steps only")

    @property
    def operators(self) -> dict[str, CausalOperator]:
        """Role (V, E, R) -> operator, in the order they run; absent ones left out."""
        roles = {"V": self.integrate, "E": self.estimate, "R": self.reset}
        return {role: operator for role, operator in roles.items() if operator is not None}

    @property
    def horizon(self) -> int | None:
        return min((o.horizon for o in self.operators.values() if o.horizon is not None), default=None)

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shapes = {role: operator.state_shape(inputs[0]) for role, operator in self.operators.items()}
        return {role: shape for role, shape in shapes.items() if shape is not None}

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        current = inputs[0]
        potential = self.integrate.step("V", current, context)
        reset = seen = torch.zeros_like(potential)
        if self.reset is not None:
            seen = potential if self.estimate is None else self.estimate.step("E", current, context)
            reset = self.reset.step("R", self.estimator.step(seen, context), context)
        return _emit(potential, reset, potential - reset - self.threshold, seen, self.fire_on, context)

    def _margin_error(self, current: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        total = potential = self.integrate.error("V", current, context, roundoff)
        if self.reset is not None:
            seen = potential if self.estimate is None else self.estimate.error("E", current, context, roundoff)
            estimated = self.estimator.error(seen, context, roundoff)
            reset = self.reset.error("R", estimated, context, roundoff)
            if roundoff.arithmetic.reset_by_difference and isinstance(self.reset, StrictLeak):
                taken = abs(self.reset.gain) * estimated.chunk(2)[0]
                reset = roundoff.with_error(reset, 4, reset.chunk(2)[0] + taken)
            total = potential + reset
        return roundoff.compared(context.name, total, self.threshold)


@op
class LIFNeuron(Neuron):
    """Leaky integrate-and-fire: the one neuron whose spikes feed back.

        H = V + (I - V)/tau            decay_input;  V - V/tau + I  otherwise;  V + I  where tau is None
        S = 1 if H - threshold >= 0 (or > 0) else 0
        V = H - threshold*S            reset "soft";  H*(1 - S)  reset "hard"

    State `V`: the membrane potential after the reset, counted from the reset potential, (B, *features).

    Args:
        tau: membrane time constant in steps, >= 1; None = no leak.
        decay_input: whether the current is divided by tau too.
        threshold: counted from the reset potential.
        reset: "soft" or "hard".
        fire_on: ">=" or ">".
    """

    tau: float | None
    decay_input: bool
    threshold: float
    reset: str
    fire_on: str

    def __post_init__(self) -> None:
        finite(self, "threshold")
        one_of(self, "reset", ("soft", "hard"))
        one_of(self, "fire_on", (">=", ">"))
        kind_of(self, "decay_input", bool)
        if self.tau is not None:
            finite(self, "tau")
        if self.tau is None and self.decay_input:
            raise InputError("LIFNeuron without leak (tau=None) has nothing to divide the input by; decay_input=False")
        if self.tau is not None and self.tau < 1:
            raise InputError(f"LIFNeuron.tau is a number of steps and must be at least 1, got {self.tau}")

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        return {"V": inputs[0]}

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        current, before = inputs[0], context.state["V"]
        if self.tau is None:
            potential = before + current
        elif self.decay_input:
            potential = before + (current - before) / self.tau
        else:
            potential = before - before / self.tau + current
        none = torch.zeros_like(potential)
        spikes = _emit(potential, none, potential - self.threshold, none, self.fire_on, context)
        soft = self.reset == "soft"
        context.new_state["V"] = potential - self.threshold * spikes if soft else potential * (1 - spikes)
        return spikes

    def _margin_error(self, current: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        """Of H. An error of V is carried on by the factor 1 - 1/tau, though V itself appears twice in the sum."""
        assert context.forced is not None
        share = 0.0 if self.tau is None else 1.0 / self.tau
        before, drive = context.state["V"], current * (share if self.decay_input else 1.0)
        magnitude, error = (before * (1.0 - share) + drive).chunk(2)
        summed = (before + drive).chunk(2)[0] + magnitude + current.chunk(2)[0]
        potential = roundoff.with_error(torch.cat([magnitude, error]), 6, summed)
        margin_error = context.margin_error = roundoff.compared(context.name, potential, self.threshold)
        spikes, doubt = roundoff.emitted(context).chunk(2)
        if self.reset == "hard":
            size, error = potential.chunk(2)
            left = torch.cat([size, torch.where(doubt > 0, size + error, error)])
            context.new_state["V"] = left * torch.cat([1 - spikes, 1 - spikes]).maximum(torch.cat([doubt, doubt]))
        else:
            taken = abs(self.threshold) * torch.cat([spikes, doubt])
            context.new_state["V"] = roundoff.rounded(potential + taken, 2)
        return margin_error


@op
class BernoulliNeuron(Neuron):
    """Fires at random: `P(S = 1) = sigmoid(V)`, `V = integrate(I)`. The spike never feeds back.

        S = 1 if sigmoid(V) > u[t] else 0,   u[t] = psu_deploy.numerics.noise.uniform(seed, t, ...)

    The noise is a function of seed, step, sample and neuron, so a run can be repeated anywhere.

    Args:
        integrate: what makes V of the input current.
        seed: of the noise, >= 0.
    """

    integrate: CausalOperator
    seed: int

    def __post_init__(self) -> None:
        kind_of(self, "integrate", CausalOperator)
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise InputError(f"BernoulliNeuron.seed must be a whole number >= 0, got {self.seed!r}")

    @property
    def horizon(self) -> int | None:
        return self.integrate.horizon

    @property
    def uses_step(self) -> bool:
        return True

    def state_shapes(self, *inputs: Shape) -> dict[str, Shape]:
        shape = self.integrate.state_shape(inputs[0])
        return {} if shape is None else {"V": shape}

    @property
    def potential_slope(self) -> float:
        """The margin is that of sigmoid(V), which an error of V moves by a quarter of itself at most."""
        return 4.0

    def step(self, inputs: Sequence[Tensor], context: Context) -> Tensor:
        current = inputs[0]
        potential = self.integrate.step("V", current, context)
        noise = uniform(self.seed, context.step, len(current), tuple(current.shape[1:]), like=current)
        none = torch.zeros_like(potential)
        return _emit(potential, none, torch.sigmoid(potential) - noise, none, ">", context)

    def _margin_error(self, current: Tensor, context: Context, roundoff: Roundoff) -> Tensor:
        potential = self.integrate.error("V", current, context, roundoff)
        noise = torch.ones(())  # at most
        return roundoff.rounded(roundoff.sigmoid(potential), 2, noise).chunk(2)[1]


def _emit(potential: Tensor, reset: Tensor, margin: Tensor, seen: Tensor, fire_on: str, context: Context) -> Tensor:
    """Decide, note the decision, and return the spikes: those decided, or those told."""
    fired = margin >= 0 if fire_on == ">=" else margin > 0
    context.neuron = NeuronStep(fired.to(margin.dtype), potential, reset, margin, seen)
    return context.neuron.spikes if context.forced is None else context.forced
