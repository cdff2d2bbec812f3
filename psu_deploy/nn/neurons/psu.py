"""Parallel Spiking Units: PSU, IPSU, RPSU and PPSU.

Defaults are the equations of the paper (arXiv 2402.00449, Eq. 4-12). The authors' code differs from the
paper; its neurons are the same classes with other arguments:

| as coded by the authors | arguments (a = 1/tau) |
|---|---|
| PSU  | `decay=a, fire_on=">"` |
| IPSU | `decay=a, bias=True, reset_input="current", reset_gain=1.0, fire_on=">", init="kaiming"` |
| PPSU, RPSU | `decay=a, bias=True, reset_gain=1.0, fire_on=">", init="kaiming"` |
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from psu_deploy.errors import InputError
from psu_deploy.nn.neurons.base import SpikingUnit
from psu_deploy.nn.neurons.estimators import check_estimator
from psu_deploy.nn.neurons.surrogate import FireOn, Surrogate
from psu_deploy.nn.temporal import CausalMatrix, CausalOperator, Exponentials, Identity, Init, Leak, StrictLeak
from psu_deploy.numerics.checks import check_number

__all__ = ["IPSU", "PPSU", "PSU", "RPSU"]

ResetInput = Literal["estimate", "current"]
Temporal = Literal["matrix", "exponentials"]


class _LeakyUnit(SpikingUnit):
    """What the four units share: a time constant, and a reset that is a strict leak."""

    def __init__(
        self,
        tau: float,
        threshold: float,
        decay: float | None,
        gain: float | None,
        reset_gain: float | None,
        fire_on: FireOn,
        surrogate: Surrogate | None,
        estimator: nn.Module | None,
    ) -> None:
        super().__init__(threshold, fire_on, surrogate)
        check_number("tau", tau)
        if not tau >= 1.0:
            raise InputError(f"tau is a number of steps and must be at least 1, got {tau}")
        self.tau = float(tau)
        self.decay = 1.0 - 1.0 / tau if decay is None else float(decay)
        self.gain = 1.0 / tau if gain is None else float(gain)
        self.reset = StrictLeak(self.threshold if reset_gain is None else reset_gain, self.decay)
        if estimator is not None:
            check_estimator(estimator)
        self.estimator = nn.Sigmoid() if estimator is None else estimator

    def _leak(self) -> Leak:
        return Leak(self.gain, self.decay)

    def _learned(self, steps: int, bias: bool, init: Init, temporal: Temporal, terms: int) -> CausalOperator:
        matrix = CausalMatrix(steps, bias=bias, init=init, gain=self.gain, decay=self.decay)  # checks steps and init
        if temporal == "matrix":
            return matrix
        if temporal != "exponentials":
            raise InputError(f'temporal must be "matrix" or "exponentials", got {temporal!r}')
        if init != "leak":
            raise InputError(f'init={init!r} fills a matrix; with temporal="exponentials" use init="leak"')
        return Exponentials.near_leak(terms, self.gain, self.decay, 0.0 if bias else None)


class _SharedEstimateUnit(_LeakyUnit):
    """The spike estimate looks at V itself: A_R is A_I, one object, registered once."""

    @property
    def estimate(self) -> CausalOperator:  # type: ignore[override]
        return self.integrate


class PSU(_SharedEstimateUnit):
    """Parallel Spiking Unit: an LIF neuron whose reset looks at estimated spikes.

        V = A I,  R = B sigmoid(V),  S = Theta(V - R - V_th)

    Serial form: `V = decay*V + gain*I; S = V - R - V_th >= 0; R = decay*(R + V_th*sigmoid(V))`.
    Two numbers of state per neuron, any number of steps, nothing to learn.

    Args:
        tau: membrane time constant in steps, >= 1.
        threshold: V_th.
        decay: factor per step of V and R; None = `1 - 1/tau`.
        gain: factor of the input current; None = `1/tau`.
        reset_gain: factor of the estimated spike; None = V_th.
        fire_on: ">=" or ">", whether a margin of exactly zero fires.
        surrogate: gives the gradient of Theta; None = `Atan(alpha=2.0)`.
        estimator: of the spike; None = `torch.nn.Sigmoid()`. `Staircase(levels)` is close to it and can go to NIR,
            `SigmoidTable()` to Lava.

    Reference: arXiv 2402.00449, Eq. 10.

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range; in forward, if x is no sequence.

    >>> import torch
    >>> PSU(tau=2.0)(torch.ones(3, 1, 1) * 3).flatten()
    tensor([1., 1., 1.])
    """

    def __init__(
        self,
        tau: float = 2.0,
        threshold: float = 1.0,
        *,
        decay: float | None = None,
        gain: float | None = None,
        reset_gain: float | None = None,
        fire_on: FireOn = ">=",
        surrogate: Surrogate | None = None,
        estimator: nn.Module | None = None,
    ) -> None:
        super().__init__(tau, threshold, decay, gain, reset_gain, fire_on, surrogate, estimator)
        self.integrate = self._leak()


class IPSU(_LeakyUnit):
    """Input-aware PSU: the integration matrix is learned, the estimate looks through the fixed leak.

        V = A_I I (+ b_I),  R = B sigmoid(A I),  S = Theta(V - R - V_th)

    Serial form: T - 1 partial sums, one leak and R per neuron, and a step counter; T steps, no more.

    Args:
        T: number of time steps, the horizon.
        tau: membrane time constant in steps, >= 1.
        threshold: V_th.
        decay: factor per step of the leak and of R; None = `1 - 1/tau`.
        gain: factor of the input current in the leak; None = `1/tau`.
        bias: learn b_I, one number per step (not in the paper).
        init: A_I starts at `"leak"` or at `"kaiming"` noise as the authors' code does.
        reset_gain: factor of what enters the reset; None = V_th.
        reset_input: `"estimate"`: sigmoid(A I), the paper; `"current"`: the raw current I, the authors' code.
        fire_on: ">=" or ">", whether a margin of exactly zero fires.
        surrogate: gives the gradient of Theta; None = `Atan(alpha=2.0)`.
        estimator: of the spike; None = `torch.nn.Sigmoid()`. `Staircase(levels)` is close to it and can go to NIR,
            `SigmoidTable()` to Lava.
        temporal: `"matrix"`, or `"exponentials"`: A_I is a sum of exponentials, which any number of steps can use; it
            starts near the leak, and its bias is one number for all steps.
        terms: number of exponentials; of no account for a matrix.

    Reference: arXiv 2402.00449, Eq. 11 (A_I learned).

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range; in forward, if x is no sequence.
        HorizonError: in forward, if there are more steps than T.

    >>> import torch
    >>> neuron = IPSU(T=4, threshold=0.5)
    >>> neuron(torch.ones(4, 1, 1)).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> neuron.integrate.matrix(3)  # learned; starts as the leak
    tensor([[0.5000, 0.0000, 0.0000],
            [0.2500, 0.5000, 0.0000],
            [0.1250, 0.2500, 0.5000]], dtype=torch.float64)
    """

    def __init__(
        self,
        T: int,
        tau: float = 2.0,
        threshold: float = 1.0,
        *,
        decay: float | None = None,
        gain: float | None = None,
        bias: bool = False,
        init: Init = "leak",
        reset_gain: float | None = None,
        reset_input: ResetInput = "estimate",
        fire_on: FireOn = ">=",
        surrogate: Surrogate | None = None,
        estimator: nn.Module | None = None,
        temporal: Temporal = "matrix",
        terms: int = 4,
    ) -> None:
        super().__init__(tau, threshold, decay, gain, reset_gain, fire_on, surrogate, estimator)
        self.integrate = self._learned(T, bias, init, temporal, terms)
        if reset_input == "estimate":
            self.estimate = self._leak()
        elif reset_input == "current":
            if estimator is not None:
                raise InputError(
                    'reset_input="current" resets by the current itself and takes no estimator; leave it out'
                )
            self.estimate = Identity()
            self.estimator = nn.Identity()
        else:
            raise InputError(f'reset_input must be "estimate" or "current", got {reset_input!r}')


class RPSU(_LeakyUnit):
    """Reset-aware PSU: the matrix that the spike estimate looks through is learned.

        V = A I,  R = B sigmoid(A_R I (+ b_R)),  S = Theta(V - R - V_th)

    Serial form: T - 1 partial sums, V and R per neuron, and a step counter; T steps, no more.

    Args:
        T: number of time steps, the horizon.
        tau: membrane time constant in steps, >= 1.
        threshold: V_th.
        decay: factor per step of V and R; None = `1 - 1/tau`.
        gain: factor of the input current; None = `1/tau`.
        bias: learn b_R, one number per step (not in the paper).
        init: A_R starts at `"leak"` or at `"kaiming"` noise as the authors' code does.
        reset_gain: factor of the estimated spike; None = V_th.
        fire_on: ">=" or ">", whether a margin of exactly zero fires.
        surrogate: gives the gradient of Theta; None = `Atan(alpha=2.0)`.
        estimator: of the spike; None = `torch.nn.Sigmoid()`. `Staircase(levels)` is close to it and can go to NIR,
            `SigmoidTable()` to Lava.
        temporal: `"matrix"`, or `"exponentials"`: A_R is a sum of exponentials, which any number of steps can use; it
            starts near the leak, and its bias is one number for all steps.
        terms: number of exponentials; of no account for a matrix.

    Reference: arXiv 2402.00449, Eq. 11 (A_R learned).

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range; in forward, if x is no sequence.
        HorizonError: in forward, if there are more steps than T.

    >>> import torch
    >>> neuron = RPSU(T=4, threshold=0.5)
    >>> neuron(torch.ones(4, 1, 1)).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> [name for name, _ in neuron.named_parameters()]
    ['estimate.entries']
    """

    def __init__(
        self,
        T: int,
        tau: float = 2.0,
        threshold: float = 1.0,
        *,
        decay: float | None = None,
        gain: float | None = None,
        bias: bool = False,
        init: Init = "leak",
        reset_gain: float | None = None,
        fire_on: FireOn = ">=",
        surrogate: Surrogate | None = None,
        estimator: nn.Module | None = None,
        temporal: Temporal = "matrix",
        terms: int = 4,
    ) -> None:
        super().__init__(tau, threshold, decay, gain, reset_gain, fire_on, surrogate, estimator)
        self.integrate = self._leak()
        self.estimate = self._learned(T, bias, init, temporal, terms)


class PPSU(_SharedEstimateUnit):
    """PSU with one learned matrix in both places (in the authors' code, not in the paper).

        V = A_I I (+ b_I),  R = B sigmoid(V),  S = Theta(V - R - V_th)

    Serial form: T - 1 partial sums and R per neuron, and a step counter; T steps, no more.

    Args:
        T: number of time steps, the horizon.
        tau: membrane time constant in steps, >= 1.
        threshold: V_th.
        decay: factor per step of R; None = `1 - 1/tau`.
        gain: of the leak matrix A_I starts at; None = `1/tau`.
        bias: learn b_I, one number per step.
        init: A_I starts at `"leak"` or at `"kaiming"` noise as the authors' code does.
        reset_gain: factor of the estimated spike; None = V_th.
        fire_on: ">=" or ">", whether a margin of exactly zero fires.
        surrogate: gives the gradient of Theta; None = `Atan(alpha=2.0)`.
        estimator: of the spike; None = `torch.nn.Sigmoid()`. `Staircase(levels)` is close to it and can go to NIR,
            `SigmoidTable()` to Lava.
        temporal: `"matrix"`, or `"exponentials"`: A_I is a sum of exponentials, which any number of steps can use; it
            starts near the leak, and its bias is one number for all steps.
        terms: number of exponentials; of no account for a matrix.

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range; in forward, if x is no sequence.
        HorizonError: in forward, if there are more steps than T.

    >>> import torch
    >>> neuron = PPSU(T=4, threshold=0.5)
    >>> neuron(torch.ones(4, 1, 1)).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> neuron.estimate is neuron.integrate
    True
    """

    def __init__(
        self,
        T: int,
        tau: float = 2.0,
        threshold: float = 1.0,
        *,
        decay: float | None = None,
        gain: float | None = None,
        bias: bool = False,
        init: Init = "leak",
        reset_gain: float | None = None,
        fire_on: FireOn = ">=",
        surrogate: Surrogate | None = None,
        estimator: nn.Module | None = None,
        temporal: Temporal = "matrix",
        terms: int = 4,
    ) -> None:
        super().__init__(tau, threshold, decay, gain, reset_gain, fire_on, surrogate, estimator)
        self.integrate = self._learned(T, bias, init, temporal, terms)
