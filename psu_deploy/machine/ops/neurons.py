"""The neuron layers of a state machine: whatever emits spikes."""

from __future__ import annotations

from dataclasses import dataclass

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.estimators import Estimator
from psu_deploy.machine.ops.fields import Shape, finite, kind_of, one_of
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.operators import CausalOperator


class Neuron(Layer):
    """Base of the neuron layers: spikes 0.0 or 1.0 out, one for every current in."""


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
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
