"""Layers that work along time and are no neurons: convolutions over steps, membranes, and a static input."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons.base import TimeFirst, at_least_single, check_sequence
from psu_deploy.nn.temporal import Leak
from psu_deploy.numerics.checks import check_number, check_whole


class TimeConv1d(TimeFirst):
    """Convolution over neighbouring steps: (T, B, C_in) -> (T, B, C_out), zero before and after the sequence.

        y[t] = sum_{l = 0 .. k-1} W[:, :, l] x[t + lookahead - (k-1) + l] + b

    With `lookahead = 0` it is causal. Otherwise it needs that many later steps: its serial form answers late, and
    stands at the network's input only, where what follows the last step is silence.

    Args:
        in_features: C_in.
        out_features: C_out.
        kernel_size: k, in steps.
        lookahead: how many of the k steps are later than the step itself, 0 .. k-1.
        groups: number of groups of features.
        bias: whether to learn b.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        lookahead: int = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("in_features", in_features), ("out_features", out_features), ("groups", groups)):
            check_whole(name, value)
        check_whole("kernel_size", kernel_size)
        check_whole("lookahead", lookahead)
        if in_features % groups or out_features % groups:
            raise InputError(f"groups={groups} must divide in_features={in_features} and out_features={out_features}")
        if not 0 <= lookahead < kernel_size:
            raise InputError(f"lookahead must lie in 0..{kernel_size - 1} (kernel_size - 1), got {lookahead}")
        self.lookahead = lookahead
        self.conv = nn.Conv1d(in_features, out_features, kernel_size, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3:
            raise InputError(f"TimeConv1d needs a sequence (T, B, features), got shape {tuple(x.shape)}")
        before = self.conv.kernel_size[0] - 1 - self.lookahead
        padded = F.pad(x.permute(1, 2, 0), (before, self.lookahead))
        mixed: Tensor = self.conv(padded)
        return mixed.permute(2, 0, 1)

    def extra_repr(self) -> str:
        return f"lookahead={self.lookahead}"


class Membrane(TimeFirst):
    """The potential of a leaky neuron that never fires, as an output: (T, B, ...) -> (T, B, ...).

        V[t] = (1 - 1/tau) V[t-1] + g I[t],    g = 1/tau, or 1 where the input does not decay; V[-1] = 0

    What most spiking networks for regression end with; its last step, `y[-1]`, is what they answer.

    Args:
        tau: membrane time constant in steps, >= 1.
        decay_input: whether the input is divided by tau.

    Raises:
        InputError: if tau is below 1.

    Shapes: (T, B, *features) in and out.

    >>> Membrane(tau=2.0)(torch.ones(3, 1, 1)).flatten()
    tensor([0.5000, 0.7500, 0.8750])
    """

    def __init__(self, tau: float = 2.0, *, decay_input: bool = True) -> None:
        super().__init__()
        if not tau >= 1.0:
            raise InputError(f"tau must be at least 1 step, got {tau}")
        self.leak = Leak(1.0 / tau if decay_input else 1.0, 1.0 - 1.0 / tau)

    def forward(self, x: Tensor) -> Tensor:
        potential: Tensor = self.leak(x)
        return potential


class HandOver(TimeFirst):
    """A leaky membrane that remembers itself only through another one: (T, B, ...) twice -> (T, B, ...).

        V[t] = I[t] + decay * Omega(U[t-1], V[t-1]),   Omega(p, q) = 2 sin(theta p cos(theta q)),   U[-1] = V[-1] = 0

    A loop over the steps: Omega is not linear. Serial form: U and V of the step before, any number of steps.

    Args:
        decay: factor per step of what is handed over.
        theta: of the projection Omega, in radians.

    Raises:
        InputError: if decay or theta is not finite; in forward, if current and membrane differ in shape.

    Reference: arXiv 2401.10843, the projection function; pi/4 is the constant of the published code.

    >>> HandOver(decay=0.5, theta=math.pi / 6)(torch.zeros(3, 1, 1), torch.ones(3, 1, 1)).flatten()
    tensor([0.0000, 0.5000, 0.4845])
    """

    def __init__(self, decay: float = 0.4, theta: float = math.pi / 4) -> None:
        super().__init__()
        for name, value in (("decay", decay), ("theta", theta)):
            check_number(name, value)
            if not math.isfinite(value):
                raise InputError(f"{name} must be finite, got {value}")
        self.decay = float(decay)
        self.theta = float(theta)

    def forward(self, current: Tensor, membrane: Tensor) -> Tensor:
        check_sequence(current)
        if current.shape != membrane.shape:
            raise InputError(
                f"current and membrane must have one shape, got {tuple(current.shape)} and {tuple(membrane.shape)}"
            )
        with torch.autocast(current.device.type, enabled=False):
            first, *later = at_least_single(current)
            potentials = [first]
            for arriving, handed in zip(later, at_least_single(membrane), strict=False):
                potentials.append(arriving + self.decay * self.project(handed, potentials[-1]))
            return torch.stack(potentials).to(current.dtype)

    def project(self, membrane: Tensor, own: Tensor) -> Tensor:
        """Omega of two membranes."""
        return 2 * torch.sin(self.theta * membrane * torch.cos(self.theta * own))

    def extra_repr(self) -> str:
        return f"decay={self.decay:g}, theta={self.theta:g}"


class DirectEncoding(TimeFirst):
    """The first layers of a network whose input is one static image, shown at every step.

    Their result is the same at every step: the serial form computes it in the first step and holds it.

    Args:
        layers: stateless layers, in order.

    Shapes: (T, B, *features) in, the same at every t; (T, B, ...) out.

    Raises:
        InputError: in forward, if the input changes from step to step.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.static = Static()
        self.layers = SpikingSequential(*layers)
        self.hold = Hold()

    def forward(self, x: Tensor) -> Tensor:
        held: Tensor = self.hold(self.layers(self.static(x)))
        return held


class Static(TimeFirst):
    """Passes a sequence on if it is the same at every step; raises `InputError` otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.equal(x, x[:1].expand_as(x)):
            raise InputError("a directly encoded input must be the same at every step: x[t] = image for all t")
        return x


class Hold(TimeFirst):
    """`y[t] = x[0]`: (T, B, ...) -> (T, B, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:1].expand_as(x)
