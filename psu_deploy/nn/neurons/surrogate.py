"""The spike function and its surrogate gradients.

Forward: a step, `S = 1 if margin >= 0 else 0` (or `> 0`). Backward: the derivative of a smooth
stand-in, because the step's own derivative is zero almost everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.nn.transformable import ElementwiseFunction
from psu_deploy.numerics.checks import check_number

__all__ = ["Atan", "PiecewiseLinear", "Rectangle", "Surrogate"]

FireOn = Literal[">=", ">"]


class Surrogate(Protocol):
    """Anything with the derivative of a smooth step."""

    def derivative(self, margin: Tensor) -> Tensor:
        """dS/dmargin, elementwise."""
        ...


@dataclass(frozen=True)
class Atan:
    """`dS/dz = (alpha/2) / (1 + (pi*alpha*z/2)**2)`.

    Args:
        alpha: sharpness; the paper uses 2.

    Reference: arXiv 2402.00449, section 5 (Atan surrogate).

    >>> import torch
    >>> Atan(alpha=2.0).derivative(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.0920, 1.0000, 0.0920])
    """

    alpha: float = 2.0

    def derivative(self, margin: Tensor) -> Tensor:
        """dS/dmargin, elementwise."""
        return (self.alpha / 2) / (1 + (math.pi / 2 * self.alpha * margin) ** 2)


@dataclass(frozen=True)
class PiecewiseLinear:
    """`dS/dz = alpha - alpha**2 * |z|` for `|z| <= 1/alpha`, else 0.

    Args:
        alpha: height of the triangle and inverse of its half width; the paper uses 2.

    Reference: arXiv 2402.00449, section 5 (PWL surrogate, DVS-CIFAR10).

    >>> import torch
    >>> PiecewiseLinear(alpha=2.0).derivative(torch.tensor([-0.5, 0.0, 0.25]))
    tensor([0., 2., 1.])
    """

    alpha: float = 2.0

    def derivative(self, margin: Tensor) -> Tensor:
        """dS/dmargin, elementwise."""
        return (self.alpha - self.alpha**2 * margin.abs()).clamp(min=0)


@dataclass(frozen=True)
class Rectangle:
    """`dS/dz = 1/(2 half_width)` for `|z| < half_width`, else 0: the area under it is that of the step, 1.

    Args:
        half_width: how far from the threshold a gradient passes, > 0; at 0.5 the height is 1.

    Raises:
        InputError: if half_width is not a positive number.

    Reference: Wu et al., Front. Neurosci. 12 (2018), 331, h_1; the code of arXiv 2401.10843, at 0.5.

    >>> import torch
    >>> Rectangle(0.5).derivative(torch.tensor([-0.5, -0.4, 0.0, 0.4, 0.5]))
    tensor([0., 1., 1., 1., 0.])
    """

    half_width: float = 0.5

    def __post_init__(self) -> None:
        check_number("half_width", self.half_width)
        if not 0 < self.half_width < math.inf:
            raise InputError(f"half_width must be more than 0 and finite, got {self.half_width}")

    def derivative(self, margin: Tensor) -> Tensor:
        """dS/dmargin, elementwise."""
        return (margin.abs() < self.half_width).to(margin.dtype) / (2 * self.half_width)


def fire(margin: Tensor, surrogate: Surrogate, fire_on: FireOn = ">=") -> Tensor:
    """`S = Theta(margin)` with a surrogate gradient.

    Args:
        margin: V - R - threshold, any shape.
        surrogate: gives the gradient.
        fire_on: whether a margin of exactly zero fires (`">="`) or not (`">"`).

    Returns:
        Spikes, 0.0 or 1.0, same shape and dtype.
    """
    spikes: Tensor = _Fire.apply(margin, surrogate, fire_on)
    return spikes


def check_fire_on(fire_on: str) -> None:
    """Raise `InputError` unless fire_on is ">=" or ">"."""
    if fire_on not in (">=", ">"):
        raise InputError(f'fire_on must be ">=" or ">", got {fire_on!r}')


class _Fire(ElementwiseFunction):
    @staticmethod
    def forward(margin: Tensor, surrogate: Surrogate, fire_on: FireOn) -> Tensor:  # noqa: ARG004  torch's signature
        fired = margin >= 0 if fire_on == ">=" else margin > 0
        return fired.to(margin.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        margin, ctx.surrogate, _ = inputs
        ctx.save_for_backward(margin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (margin,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative(margin), None, None
