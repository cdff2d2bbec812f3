"""First-order recurrences along time, differentiable, in O(T N) memory.

The leak matrix `A[i, j] = gain * decay**(i - j)` (i >= j) never has to be built:
its product with a sequence is a recurrence, and so is the product with its transpose,
which is the gradient. On the CPU the recurrence runs step by step, in the very order of
the serial machine, so both round alike. On an accelerator, where every launch costs more
than its arithmetic, it runs in chunks of matrix products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from psu_deploy.nn.transformable import TransformableFunction
from psu_deploy.numerics.subnormal import flushed

CHUNK = 64
"""Steps per matrix product on an accelerator: T launches become T / 64."""


def leak_scan(x: Tensor, gain: float, decay: float, *, strict: bool = False) -> Tensor:
    """Multiply a sequence with a leak matrix.

    Leak (`strict=False`): `y[t] = decay * y[t-1] + gain * x[t]`, that is
    `y = A x` with `A[i, j] = gain * decay**(i - j)` for `i >= j`.

    Strict leak: `y[t+1] = decay * (y[t] + gain * x[t])`, `y[0] = 0`, that is
    `y = B x` with `B[i, j] = gain * decay**(i - j)` for `i > j`.

    Args:
        x: sequence, shape (T, ...), floating point.
        gain: factor of every input.
        decay: factor per step.
        strict: leave out the diagonal.

    Returns:
        Sequence of the same shape. Differentiable in x, any number of times.
    """
    result: Tensor = _LeakScan.apply(x, gain, decay, strict, False)
    return result


class _LeakScan(TransformableFunction):
    @staticmethod
    def forward(x: Tensor, gain: float, decay: float, strict: bool, backwards: bool) -> Tensor:
        scan = _stepwise if x.device.type == "cpu" else _chunked
        return scan(x, gain, decay, strict, backwards)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004  torch's signature
        _, *ctx.coefficients = inputs

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, ...], x: Tensor, *coefficients: Any) -> tuple[Tensor, int]:  # noqa: ARG004
        """Every sample is a row of its own; time stays in front."""
        return _LeakScan.apply(x.movedim(in_dims[0], 1), *coefficients), 1

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        gain, decay, strict, backwards = ctx.coefficients
        # The transpose of a lower triangular Toeplitz matrix is the same scan with time reversed.
        grad_x: Tensor = _LeakScan.apply(grads[0], gain, decay, strict, not backwards)
        return grad_x, None, None, None, None


def _stepwise(x: Tensor, gain: float, decay: float, strict: bool, backwards: bool) -> Tensor:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    carry = torch.zeros_like(x[0]) if len(x) else x.new_empty(())
    for t in reversed(range(len(x))) if backwards else range(len(x)):
        if strict:
            y[t] = carry
            carry = (carry + gain * x[t]).mul_(decay)
        else:
            carry = torch.add(carry * decay, gain * x[t], out=y[t])
    return y


def _chunked(x: Tensor, gain: float, decay: float, strict: bool, backwards: bool) -> Tensor:
    flat = x.reshape(len(x), -1)
    y = torch.empty_like(flat)
    carry = flat.new_zeros(flat.shape[1])
    starts = range(0, len(x), CHUNK)
    for start in reversed(starts) if backwards else starts:
        rows = slice(start, min(start + CHUNK, len(x)))
        steps = torch.arange(rows.stop - rows.start, device="cpu")
        lag = steps[:, None] - steps[None, :]
        lag = lag.T if backwards else lag
        kernel = flushed((gain * _powers(decay, lag, lag > 0 if strict else lag >= 0)).to(x))
        age = (len(steps) - 1 - steps if backwards else steps) + (0 if strict else 1)
        y[rows] = kernel @ flat[rows] + flushed(_powers(decay, age, age >= 0).to(x))[:, None] * carry
        edge = rows.start if backwards else rows.stop - 1
        carry = decay * (y[edge] + gain * flat[edge]) if strict else y[edge]
    return y.reshape(x.shape)


def _powers(decay: float, exponent: Tensor, where: Tensor) -> Tensor:
    exact = torch.pow(decay, exponent.clamp(min=0).to(torch.float64))
    return torch.where(where, exact, 0.0)
