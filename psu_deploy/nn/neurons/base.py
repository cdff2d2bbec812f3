"""The frame every neuron of the family shares: causal operators around a pointwise estimator."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.kernels.choice import pays
from psu_deploy.nn.neurons.fused import named, spiking_unit
from psu_deploy.nn.neurons.surrogate import Atan, FireOn, Surrogate, check_fire_on, fire
from psu_deploy.nn.temporal import CausalOperator
from psu_deploy.numerics.checks import check_number

__all__ = ["Neuron", "SpikingUnit", "TimeFirst"]


class TimeFirst(nn.Module):
    """Marks a module whose forward works on whole sequences (T, B, ...).

    Any other module is stateless to us: it sees (T*B, ...), once for all steps.
    """


class Neuron(TimeFirst, ABC):
    """Base of the neuron layers: input currents (T, B, *features) in, spikes 0.0 or 1.0 of the same shape out.

    Attributes:
        threshold: V_th.
    """

    threshold: float

    @property
    def horizon(self) -> int | None:
        """Number of steps the neuron is defined for; None = any number."""
        return None

    @abstractmethod
    def potentials(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """V and R of every step.

        Args:
            x: input current, (T, B, *features).

        Returns:
            V and R, each (T, B, *features).
        """

    def margin(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """V, R, and the margin whose sign decides: `V - R - V_th` unless the neuron says otherwise."""
        potential, reset = self.potentials(x)
        return potential, reset, potential - reset - self.threshold


class SpikingUnit(Neuron):
    """A neuron layer with all time steps computed at once.

        V = A_I I + b_I             integrate: membrane potential without reset
        E = A_R I + b_R             what the spike estimate looks at
        R = B estimator(E)          reset, B strictly lower triangular
        S = Theta(V - R - V_th)     fire

    Attributes:
        integrate: A_I, a causal operator.
        estimate: A_R, a causal operator; the very same object as `integrate` where the neuron shares it;
            None where the neuron has no reset.
        reset: B, a causal operator, or None.
        estimator: the pointwise function, `torch.nn.Sigmoid`, `Staircase`, `SigmoidTable` or
            `torch.nn.Identity`.
        threshold: V_th.
        fire_on: ">=" or ">".
        surrogate: gives the gradient of Theta.

    Shapes: (T, B, *features) in and out, any features. Spikes are 0.0 or 1.0 in the input's dtype; potentials and
    the decision are float32 where the input is half precision, so that it never hangs on 11 bits.
    """

    integrate: CausalOperator
    estimate: CausalOperator | None
    reset: CausalOperator | None
    estimator: nn.Module

    def __init__(self, threshold: float, fire_on: FireOn, surrogate: Surrogate | None) -> None:
        super().__init__()
        check_fire_on(fire_on)
        self.fire_at(threshold)
        self.fire_on: FireOn = fire_on
        self.surrogate: Surrogate = Atan() if surrogate is None else surrogate

    @property
    def threshold(self) -> float:  # type: ignore[override]
        """V_th. Fixed at construction, because the reset matrix is scaled by it; but see `fire_at`."""
        return self._threshold

    def fire_at(self, threshold: float) -> None:
        """Move the threshold of the decision alone: the reset keeps the gain it was built with.

        It is no parameter: a `state_dict` does not hold it.

        Args:
            threshold: V_th of `S = Theta(V - R - V_th)`, finite.

        Raises:
            InputError: if it is no finite number.
        """
        check_number("threshold", threshold)
        if not math.isfinite(threshold):
            raise InputError(f"threshold must be finite, got {threshold}")
        self._threshold = float(threshold)

    @property
    def horizon(self) -> int | None:
        """Number of steps the neuron is defined for; None = any number."""
        operators = (self.integrate, self.estimate, self.reset)
        return min((o.horizon for o in operators if o is not None and o.horizon is not None), default=None)

    def margin(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        potential, reset = self.potentials(x)
        if self.reset is None and self.threshold == 0:  # two passes over the sequence that would change no bit
            return potential, reset, potential
        return potential, reset, potential - reset - self.threshold

    def potentials(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_sequence(x)
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_single(x)
            potential = self.integrate(x)
            if self.reset is None or self.estimate is None:
                return potential, torch.zeros_like(potential)
            estimated = potential if self.estimate is self.integrate else self.estimate(x)
            return potential, self.reset(self.estimator(estimated))

    def forward(self, x: Tensor) -> Tensor:
        fused = self._fused(x)
        if fused is not None:
            return fused.to(x.dtype)
        _, _, margin = self.margin(x)
        return fire(margin, self.surrogate, self.fire_on).to(x.dtype)

    def _fused(self, x: Tensor) -> Tensor | None:
        """Spikes in one pass over the steps; None where it takes several."""
        check_sequence(x)
        wide = at_least_single(x)
        if not self._decides_as_its_base() or not pays("spiking_unit", wide):
            return None
        surrogate = named(self.surrogate)
        with full_precision(x):
            spikes = spiking_unit(self, wide, surrogate or ("none", 1.0))
        return spikes if surrogate or spikes is None else fire(spikes, self.surrogate, self.fire_on)

    def _decides_as_its_base(self) -> bool:
        """Whether V, R and the margin are those of this class, in a subclass and in this object."""
        kind = type(self)
        ours = kind.margin is SpikingUnit.margin and kind.potentials is SpikingUnit.potentials
        return ours and "margin" not in self.__dict__ and "potentials" not in self.__dict__

    def extra_repr(self) -> str:
        return f"threshold={self.threshold:g}, fire_on={self.fire_on!r}, surrogate={self.surrogate}"


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Without autocast, which takes 20 us to turn off where it is off already."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def at_least_single(x: Tensor) -> Tensor:
    """Half precision as float32: a decision must not hang on 11 bits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def check_sequence(x: Tensor) -> None:
    """Raise `InputError` unless x is a floating point sequence (T, B, *features)."""
    if x.ndim < 2 or len(x) == 0:
        raise InputError(f"a neuron needs a sequence (T, B, *features) with T >= 1, got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise InputError(f"a neuron needs floating point input, got {x.dtype}; convert with x.float()")
