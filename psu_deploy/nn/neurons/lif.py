"""Leaky integrate-and-fire neurons: serial by nature, because their spikes feed back. The baseline of the family."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.kernels import operators
from psu_deploy.nn.kernels.choice import pays
from psu_deploy.nn.kernels.reference import charge
from psu_deploy.nn.neurons.base import Neuron, at_least_single, check_sequence
from psu_deploy.nn.neurons.fused import named
from psu_deploy.nn.neurons.surrogate import Atan, FireOn, Surrogate, check_fire_on, fire
from psu_deploy.numerics.checks import check_number

__all__ = ["LIF", "PLIF"]

Reset = Literal["soft", "hard"]


class LIF(Neuron):
    """Leaky integrate-and-fire neuron, a loop over the steps.

        H = V + (I - V)/tau       (decay_input=False: H = V - V/tau + I)
        S = Theta(H - V_th)
        V = H - V_th S            (reset="hard": V = (1 - S) H)

    Serial form: the loop itself; one number of state per neuron, any number of steps.

    Args:
        tau: membrane time constant in steps, > 1.
        threshold: V_th.
        reset: "soft" subtracts the threshold after a spike, "hard" sets V to zero.
        decay_input: whether the current is divided by tau too.
        detach_reset: cut the gradient through the spike in the reset.
        fire_on: ">=" or ">", whether a margin of exactly zero fires.
        surrogate: gives the gradient of Theta; None = `Atan(alpha=2.0)`.

    The code behind arXiv 2402.00449 resets softly and fires on ">"; BrainCog resets hard and fires on ">";
    SpikingJelly resets hard by default and fires on ">=".

    Reference: arXiv 2402.00449, Eq. 1-3.

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range; in forward, if x is no sequence.

    >>> LIF(tau=2.0)(torch.full((4, 1, 1), 1.5)).flatten()
    tensor([0., 1., 0., 1.])
    """

    def __init__(
        self,
        tau: float = 2.0,
        threshold: float = 1.0,
        *,
        reset: Reset = "hard",
        decay_input: bool = True,
        detach_reset: bool = False,
        fire_on: FireOn = ">=",
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__()
        check_fire_on(fire_on)
        check_number("tau", tau)
        if not 1.0 < tau < math.inf:
            raise InputError(f"tau is a number of steps and must be more than 1, got {tau}")
        check_number("threshold", threshold)
        if not math.isfinite(threshold):
            raise InputError(f"threshold must be finite, got {threshold}")
        if not isinstance(decay_input, bool):
            raise InputError(f"decay_input must be True or False, got {decay_input!r}")
        if reset not in ("soft", "hard"):
            raise InputError(f'reset must be "soft" or "hard", got {reset!r}')
        self.tau = float(tau)
        self.threshold = float(threshold)
        self.reset_kind: Reset = reset
        self.decay_input = decay_input
        self.detach_reset = detach_reset
        self.fire_on: FireOn = fire_on
        self.surrogate: Surrogate = Atan() if surrogate is None else surrogate

    def forward(self, x: Tensor) -> Tensor:
        fused = self._fused(x)
        spikes = self._loop(x)[0] if fused is None else fused
        return spikes.to(x.dtype)

    def _fused(self, x: Tensor) -> Tensor | None:
        """Spikes in one pass over the steps; None where it takes a loop."""
        check_sequence(x)
        wide, surrogate = at_least_single(x), named(self.surrogate)
        if type(self) not in (LIF, PLIF) or surrogate is None or not pays("lif", wide):
            return None
        hard, how = self.reset_kind == "hard", (self.decay_input, self.detach_reset, self.fire_on)
        return operators.lif(wide, self._share(wide.dtype), self.tau, self.threshold, hard, *how, *surrogate)

    def _share(self, dtype: torch.dtype) -> Tensor | None:
        """1/tau where it is learned."""
        return None

    def potentials(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """H, the membrane potential before the reset of the same step, and zero."""
        _, potential = self._loop(x)
        return potential, torch.zeros_like(potential)

    def _loop(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_sequence(x)
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_single(x)
            membrane = torch.zeros_like(x[0])
            steps = []
            for current in x:
                charged = self._charge(membrane, current)
                spikes = fire(charged - self.threshold, self.surrogate, self.fire_on)
                membrane = self._after(charged, spikes.detach() if self.detach_reset else spikes)
                steps.append((spikes, charged))
        return torch.stack([s for s, _ in steps]), torch.stack([h for _, h in steps])

    def _charge(self, membrane: Tensor, current: Tensor) -> Tensor:
        return charge(membrane, current, self.tau, self._share(current.dtype), self.decay_input)

    def _after(self, charged: Tensor, spikes: Tensor) -> Tensor:
        return charged - self.threshold * spikes if self.reset_kind == "soft" else (1.0 - spikes) * charged

    def extra_repr(self) -> str:
        parts = f"tau={self.tau:g}, threshold={self.threshold:g}, reset={self.reset_kind!r}"
        return f"{parts}, decay_input={self.decay_input}, fire_on={self.fire_on!r}, surrogate={self.surrogate}"


class PLIF(LIF):
    """LIF whose time constant is learned, `1/tau = sigmoid(w)`, one for the layer.

    Args:
        tau: to start at, in steps, > 1.
        threshold: V_th.
        reset: "soft" subtracts the threshold after a spike, "hard" sets V to zero.
        decay_input: whether the current is divided by tau too.
        detach_reset: cut the gradient through the spike in the reset.
        fire_on: ">=" or ">", whether a margin of exactly zero fires.
        surrogate: gives the gradient of Theta; None = `Atan(alpha=2.0)`.

    Reference: arXiv 2007.05785 (Fang et al., ICCV 2021), Eq. 5.

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range; in forward, if x is no sequence.

    >>> neuron = PLIF(tau=2.0)
    >>> torch.sigmoid(neuron.w).item()  # 1/tau
    0.5
    >>> neuron(torch.full((4, 1, 1), 1.5)).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(
        self,
        tau: float = 2.0,
        threshold: float = 1.0,
        *,
        reset: Reset = "hard",
        decay_input: bool = True,
        detach_reset: bool = False,
        fire_on: FireOn = ">=",
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__(
            tau,
            threshold,
            reset=reset,
            decay_input=decay_input,
            detach_reset=detach_reset,
            fire_on=fire_on,
            surrogate=surrogate,
        )
        self.w = nn.Parameter(torch.tensor(-math.log(self.tau - 1.0)))

    def _share(self, dtype: torch.dtype) -> Tensor:
        return torch.sigmoid(self.w.to(dtype))
