"""Parallel Spiking Neurons (Fang et al., NeurIPS 2023): one matrix along time and no reset."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psu_deploy.errors import HorizonError, InputError
from psu_deploy.nn.neurons.base import SpikingUnit, TimeFirst, at_least_single
from psu_deploy.nn.neurons.surrogate import Atan, FireOn, Surrogate, check_fire_on, fire
from psu_deploy.nn.temporal import MaskedMatrix, SlidingWindow
from psu_deploy.numerics.checks import check_whole

__all__ = ["PSN", "MaskedPSN", "SlidingPSN"]


class PSN(TimeFirst):
    """Parallel Spiking Neuron, `S = Theta(W I + b)` with a full T x T matrix.

    Row t of W looks at later steps too, so PSN trains but has no serial form: it cannot be exported.

    Args:
        T: number of time steps; a sequence must have exactly T.
        fire_on: ">=" or ">", whether a sum of exactly zero fires.
        surrogate: gives the gradient of Theta; None = `Atan(alpha=2.0)`.

    Reference: arXiv 2304.12760, Eq. 8.

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range.
        HorizonError: in forward, if the number of steps is not T.

    >>> neuron = PSN(T=4)
    >>> neuron(torch.full((4, 1, 1), 9.0)).shape
    torch.Size([4, 1, 1])
    >>> neuron(torch.ones(5, 1, 1))
    Traceback (most recent call last):
        ...
    psu_deploy.errors.HorizonError: PSN is defined for exactly 4 steps, got 5; x is (T, B, ...)
    """

    def __init__(self, T: int, *, fire_on: FireOn = ">=", surrogate: Surrogate | None = None) -> None:
        super().__init__()
        check_whole("T", T)
        if T < 1:
            raise InputError(f"T must be at least 1, got {T}")
        check_fire_on(fire_on)
        self.fire_on: FireOn = fire_on
        self.surrogate: Surrogate = Atan() if surrogate is None else surrogate
        self.weight = nn.Parameter(torch.empty(T, T).uniform_(-(T**-0.5), T**-0.5))
        self.step_bias = nn.Parameter(torch.full((T,), -1.0))

    @property
    def horizon(self) -> int:
        """T."""
        return len(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != self.horizon:
            raise HorizonError(f"PSN is defined for exactly {self.horizon} steps, got {len(x)}; x is (T, B, ...)")
        with torch.autocast(x.device.type, enabled=False):
            wide = at_least_single(x)
            weight, bias = self.weight.to(wide.dtype), self.step_bias.to(wide.dtype)
            margin = (weight @ wide.flatten(1) + bias[:, None]).view_as(wide)
            return fire(margin, self.surrogate, self.fire_on).to(x.dtype)


class MaskedPSN(SpikingUnit):
    """Masked Parallel Spiking Neuron, `S = Theta(((lambda M_k + (1 - lambda) 1) .* W) I + b)`.

    M_k keeps the last k steps of every row. Training starts with a full matrix (`lambda_` = 0) and ends with a causal
    one (`lambda_` = 1); set `neuron.lambda_` after every epoch, for example to `min(8 * epoch / (epochs - 1), 1)`.
    Serial form, at `lambda_` = 1 only: k - 1 partial sums per neuron and a step counter; T steps, no more.

    Args:
        T: number of time steps, the horizon.
        order: k, the number of inputs a step looks at, its own included; None = all T.
        lambda_: how far the masking has gone, from 0 to 1.
        fire_on: ">=" or ">", whether a sum of exactly zero fires.
        surrogate: gives the gradient of Theta; None = `Atan(alpha=2.0)`.

    W starts at U(-1/sqrt(T), 1/sqrt(T)) and b at -1, which takes the place of a threshold.

    Reference: arXiv 2304.12760, masked PSN.

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range; in forward, if x is no sequence.
        HorizonError: in forward, if there are more steps than T.

    >>> neuron = MaskedPSN(T=4, order=2, lambda_=0.0)
    >>> neuron.lambda_ = 1.0  # after training: causal
    >>> torch.count_nonzero(neuron.integrate.matrix(4), dim=1)  # inputs that a step looks at
    tensor([1, 2, 2, 2])
    >>> neuron(torch.full((4, 1, 1), 9.0)).shape
    torch.Size([4, 1, 1])
    """

    integrate: MaskedMatrix

    def __init__(
        self,
        T: int,
        order: int | None = None,
        lambda_: float = 1.0,
        *,
        fire_on: FireOn = ">=",
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__(0.0, fire_on, surrogate)
        self.integrate = MaskedMatrix(T, T if order is None else order, lambda_)
        self.estimate = None
        self.reset = None
        self.estimator = nn.Identity()

    @property
    def lambda_(self) -> float:
        """How far the masking has gone, from 0 to 1; 1 once `psu_deploy.prepare` has replaced the matrix."""
        matrix = self._modules["integrate"]
        return matrix.lambda_ if isinstance(matrix, MaskedMatrix) else 1.0

    @lambda_.setter
    def lambda_(self, value: float) -> None:
        matrix = self._modules["integrate"]
        if isinstance(matrix, MaskedMatrix):
            matrix.lambda_ = value
        elif value != 1.0:
            raise InputError(f"lambda_ must stay 1: psu.prepare has replaced the masked matrix; got {value}")


class SlidingPSN(SpikingUnit):
    """Sliding Parallel Spiking Neuron, `S[t] = Theta(sum_{l<k} w[l] I[t-l] + b)`.

    Serial form: k - 1 partial sums per neuron, any number of steps.

    Args:
        order: k, the number of inputs a step looks at, its own included.
        fire_on: ">=" or ">", whether a sum of exactly zero fires.
        surrogate: gives the gradient of Theta; None = `Atan(alpha=2.0)`.

    The weights start at 1, 1/2, 1/4, ... and b at -1, which takes the place of a threshold.

    Reference: arXiv 2304.12760, Eq. 12.

    Shapes: (T, B, *features) in and out; spikes are 0.0 or 1.0 in the dtype of the input.

    Raises:
        InputError: if an argument is out of its range; in forward, if x is no sequence.

    >>> SlidingPSN(order=3)(torch.tensor([1.0, 0.0, 2.0, 0.0]).view(4, 1, 1)).flatten().tolist()
    [1.0, 0.0, 1.0, 1.0]
    """

    integrate: SlidingWindow

    def __init__(self, order: int, *, fire_on: FireOn = ">=", surrogate: Surrogate | None = None) -> None:
        super().__init__(0.0, fire_on, surrogate)
        window = SlidingWindow(order, bias=True, gain=1.0, decay=0.5)
        assert window.step_bias is not None
        nn.init.constant_(window.step_bias, -1.0)
        self.integrate = window
        self.estimate = None
        self.reset = None
        self.estimator = nn.Identity()
