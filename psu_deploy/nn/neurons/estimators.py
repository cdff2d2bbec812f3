"""Estimators of the spike beside `torch.nn.Sigmoid`, for targets that cannot compute one: a staircase, a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.errors import InputError
from psu_deploy.nn.constants import starting_device
from psu_deploy.nn.transformable import ElementwiseFunction
from psu_deploy.numerics.checks import check_whole
from psu_deploy.numerics.sigmoid_table import FIRST, LAST, PER_UNIT, VALUES, sup_error
from psu_deploy.numerics.staircase import sigmoid_steps

__all__ = ["SigmoidTable", "Staircase"]

MAX_LEVELS = 255


class Staircase(nn.Module):
    """The sigmoid in K steps of equal height; backwards, the sigmoid itself (straight-through).

        S' = offset + height * #{k : E >= thresholds[k]},   dS'/dE = sigmoid'(E)
        height = 1/(K+1),   offset = height/2,   thresholds[k] = logit(k/(K+1)) in float32,   k = 1..K

    No staircase of K steps is closer to the sigmoid: nowhere is it off by more than `1/(2(K+1))`. Where K is odd the
    middle threshold would be exactly 0, where silence is: it is moved to 0.001, which costs 2.5e-4 more.

    Args:
        levels: K, the number of steps, 1..255.

    It learns nothing and adds nothing to a state_dict. The thresholds follow `.to(device)`; no dtype rounds them.

    Raises:
        InputError: if levels is not a whole number in 1..255.

    Shapes: any, in and out.

    >>> Staircase(levels=3)(torch.tensor([-9.0, 0.0, 0.01, 9.0]))
    tensor([0.1250, 0.3750, 0.6250, 0.8750])
    """

    _steps: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        check_whole("levels", levels)
        if not 1 <= levels <= MAX_LEVELS:
            raise InputError(f"levels must be a whole number in 1..{MAX_LEVELS}, got {levels}")
        self._numbers = sigmoid_steps(int(levels))
        self.register_buffer("_steps", self.thresholds.float().to(starting_device()), persistent=False)

    @property
    def levels(self) -> int:
        """K."""
        return len(self._numbers.thresholds)

    @property
    def thresholds(self) -> Tensor:
        """(K,) rising, in float64 on the CPU; every one is a float32 number."""
        return torch.tensor(self._numbers.thresholds.tolist(), dtype=torch.float64, device="cpu")

    @property
    def height(self) -> float:
        """Of every step."""
        return self._numbers.height

    @property
    def offset(self) -> float:
        """S' below the first threshold."""
        return self._numbers.offset

    @property
    def sup_error(self) -> float:
        """The largest distance to the sigmoid, `sup_E |S'(E) - sigmoid(E)|`."""
        return self._numbers.sup_error

    def forward(self, x: Tensor) -> Tensor:
        return climbed(x, self._steps.to(x.dtype), self.height, self.offset)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        moved = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # model.half() would round them, to_empty() would lose them: the numbers stay, the device changes.
        self._steps = self.thresholds.float().to(self._steps.device)
        return moved

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


def climbed(x: Tensor, thresholds: Tensor, height: float, offset: float) -> Tensor:
    """`offset + height * #{k : x >= thresholds[k]}`; backwards, the sigmoid. Thresholds have the dtype of x."""
    value: Tensor = _Staircase.apply(x, thresholds, height, offset)
    return value


class _Estimator(ElementwiseFunction):
    """Backwards, the sigmoid itself."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004  torch's signature
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(x)
        return grads[0] * sigmoid * (1.0 - sigmoid), *[None] * (len(ctx.needs_input_grad) - 1)


class _Staircase(_Estimator):
    @staticmethod
    def forward(x: Tensor, thresholds: Tensor, height: float, offset: float) -> Tensor:
        steps_below = torch.bucketize(x.contiguous(), thresholds, right=True)
        return steps_below.to(x.dtype) * height + offset


class SigmoidTable(nn.Module):
    """The sigmoid of fixed-point hardware, 12 bits of 14; backwards, the sigmoid itself (straight-through).

        S' = integer_sigmoid(floor(1024 E)) / 4096,   dS'/dE = sigmoid'(E)

    `psu_deploy.numerics.sigmoid_table` has the whole numbers: 64 straight pieces over [-8, 8), and the ends of the
    table beyond. It never falls, is within 0.0012 of the sigmoid everywhere, and 0.5 at 0. NaN stays NaN.

    It learns nothing and adds nothing to a state_dict. The table follows `.to(device)`; no dtype rounds it.

    Shapes: any, in and out.

    >>> (SigmoidTable()(torch.tensor([-9.0, 0.0, 0.25, 9.0])) * 4096).tolist()
    [1.0, 2048.0, 2303.0, 4094.0]
    """

    _values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_values", _table(starting_device()), persistent=False)

    @property
    def sup_error(self) -> float:
        """The largest distance to the sigmoid, `sup_E |S'(E) - sigmoid(E)|`."""
        return sup_error()

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = _SigmoidTable.apply(x, self._values)
        return value

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        moved = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # As for a staircase: the numbers stay, the device changes.
        self._values = _table(self._values.device)
        return moved


def _table(device: torch.device) -> Tensor:
    return torch.from_numpy(VALUES.copy()).to(device)


class _SigmoidTable(_Estimator):
    @staticmethod
    def forward(x: Tensor, values: Tensor) -> Tensor:
        # Half precision has too few bits for 16384 places. The product is exact, a power of two.
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        place = (wide * PER_UNIT).floor().clamp(FIRST, LAST) - FIRST
        found = values[place.nan_to_num().long()].to(x.dtype)
        return torch.where(x.isnan(), x, found)


def check_estimator(estimator: object) -> None:
    """Raise `InputError` unless an estimator is a module, made."""
    if not isinstance(estimator, nn.Module):
        raise InputError(f"estimator must be a module such as Staircase(levels=15), or None, got {estimator!r}")
