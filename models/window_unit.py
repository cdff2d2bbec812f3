"""The spiking unit that looks at an image window by window and hands its membranes from one window to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.along_time import HandOver, Membrane
from psu_deploy.nn.containers import Lift
from psu_deploy.nn.neurons import SPSN, Rectangle, SpikingUnit, Surrogate
from psu_deploy.nn.neurons.base import TimeFirst
from psu_deploy.nn.temporal import Identity
from psu_deploy.numerics.checks import check_number

ENCODINGS = ("threshold", "noise")
"""How a unit makes spikes of what it reads."""

BITS = 8
"""Of the noise of "noise" in eval mode."""


class Threshold(SpikingUnit):
    """Fires where its input is more than the threshold: `S = Theta(x - V_th)`. No memory.

    Args:
        threshold: V_th.
        surrogate: gives the gradient of Theta; None = `Rectangle(0.5)`.
    """

    def __init__(self, threshold: float = 0.5, surrogate: Surrogate | None = None) -> None:
        super().__init__(threshold, ">", Rectangle() if surrogate is None else surrogate)
        self.integrate = Identity()
        self.estimate = self.reset = None
        self.estimator = nn.Identity()


class RandomSpikes(TimeFirst):
    """Fires where its input is more than noise: `S = Theta(x - u)`, u drawn for every step, sample and neuron.

    In training u is torch's, uniform in 0 .. 1, so that `P(S = 1) = x` there. In eval mode it has the bits
    `u = sum_k 2**-k S_k`, k = 1 .. 8, of spikes `S_k` that an `SPSN` fires without a current: those are a function of
    its seed, so that the module, its machine and its exports draw the same. P is x rounded up to 1/256 then.

    Args:
        surrogate: gives the gradient of Theta; None = `Rectangle(0.5)`.
    """

    def __init__(self, surrogate: Surrogate | None = None) -> None:
        super().__init__()
        self.bits = SPSN(tau=1.0)
        self.fire = Threshold(0.0, surrogate)

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.fire(x - (torch.rand_like(x) if self.training else self._noise(x)))
        return spikes

    def _noise(self, x: Tensor) -> Tensor:
        silence = (0.0 * x).unsqueeze(2).expand(-1, -1, BITS, *x.shape[2:])
        worth = 0.5 ** torch.arange(1, BITS + 1, dtype=x.dtype, device=x.device)
        bits: Tensor = self.bits(silence)
        return (bits * worth.view(BITS, *[1] * (x.ndim - 2))).sum(2)


class WindowUnit(TimeFirst):
    """Spikes of its input, two convolutions with a neuron behind each, and a linear layer for every place.

        c1[i] = decay c1[i-1] + Conv3(encode(x)[i]),                    s1 = Theta(c1 - V_th)
        c2[i] = decay Omega(c1[i-1], c2[i-1]) + Conv3(s1[i]),           y = W Theta(c2 - V_th) + b

    i counts windows, and Omega is that of `HandOver`. A membrane is handed over as it was compared with the threshold:
    a spike resets nothing.

    Args:
        width: channels.
        encoding: "threshold" or "noise".
        decay: factor of the membranes that are handed over, in 0 .. 1, 1 left out.
        threshold: V_th, and what is a spike of the input where that is not random.
        theta: of Omega, in radians.
        surrogate: gives the gradient of Theta; None = `Rectangle(0.5)`.

    Raises:
        InputError: if there is no such encoding, or a number is out of range.
    """

    def __init__(
        self,
        width: int,
        *,
        encoding: str = "threshold",
        decay: float = 0.4,
        threshold: float = 0.5,
        theta: float = math.pi / 4,
        surrogate: Surrogate | None = None,
    ) -> None:
        super().__init__()
        check_number("decay", decay)
        if not 0.0 <= decay < 1.0:
            raise InputError(f"decay is what is left of a membrane and must be at least 0 and below 1, got {decay}")
        if encoding not in ENCODINGS:
            raise InputError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
        self.encode = Threshold(threshold, surrogate) if encoding == "threshold" else RandomSpikes(surrogate)
        self.conv1 = Lift(nn.Conv2d(width, width, 3, padding=1))
        self.membrane = Membrane(1.0 / (1.0 - decay), decay_input=False)
        self.fire1 = Threshold(threshold, surrogate)
        self.conv2 = Lift(nn.Conv2d(width, width, 3, padding=1))
        self.hand_over = HandOver(decay, theta)
        self.fire2 = Threshold(threshold, surrogate)
        self.mix = Lift(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Windows (T, B, C, h, w), one at a step."""
        first = self.membrane(self.conv1(self.encode(x)))
        second = self.hand_over(self.conv2(self.fire1(first)), first)
        y: Tensor = self.mix(self.fire2(second))
        return y


class WholeImageUnit(WindowUnit):
    """The same with all windows of an image in one step, (T, B, C, H, W), every step an image of its own.

    Four windows in the corners, the upper two first. Where they overlap, what they fire is averaged.

    Args:
        width: channels.
        overlapping: windows of three quarters of height and width, which must be multiples of 4; or else of a half.
        numbers: as for `WindowUnit`.
    """

    def __init__(self, width: int, overlapping: bool, **numbers: Any) -> None:
        super().__init__(width, **numbers)
        self.overlapping = overlapping

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        sides = [size * 3 // 4 if self.overlapping else size // 2 for size in (height, width)]
        fired, membranes = [], None
        for window in corners(self.encode(x), *sides):
            spikes, membranes = self._window(window, membranes)
            fired.append(spikes)
        rows = [joined(pair, width, -1) for pair in (fired[:2], fired[2:])]
        y: Tensor = self.mix(joined(rows, height, -2))
        return y

    def _window(self, window: Tensor, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What is fired, and the membranes c1, c2; from those of the window before."""
        first: Tensor = self.conv1(window)
        if before is not None:
            first = self.hand_over.decay * before[0] + first
        second: Tensor = self.conv2(self.fire1(first))
        if before is not None:
            second = second + self.hand_over.decay * self.hand_over.project(*before)
        return self.fire2(second), (first, second)

    def extra_repr(self) -> str:
        return f"overlapping={self.overlapping}"


def corners(image: Tensor, height: int, width: int) -> list[Tensor]:
    """The four windows of this size in the corners of (..., H, W): the upper two, then the lower two, left to right."""
    down, right = image.shape[-2] - height, image.shape[-1] - width
    return [image[..., top : top + height, left : left + width] for top in (0, down) for left in (0, right)]


def joined(pair: Sequence[Tensor], size: int, axis: int) -> Tensor:
    """Two windows at both ends of an axis of this size; the mean where both are."""
    first, second = pair
    side = first.shape[axis]
    both = 2 * side - size
    if not both:
        return torch.cat([first, second], axis)
    alone, shared = torch.split(first, [side - both, both], axis)
    also, rest = torch.split(second, [both, side - both], axis)
    return torch.cat([alone, (shared + also) / 2, rest], axis)
