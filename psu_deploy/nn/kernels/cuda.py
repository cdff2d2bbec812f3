"""The operators on a GPU: Triton where it is installed and the numbers are float32 or float64, else the reference.

What backward keeps of the steps stands where the gradients will; a unit of one sequence needs as much once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from psu_deploy.nn.kernels import choice, operators
from psu_deploy.nn.kernels.codes import ESTIMATORS, IDENTITY, NO_RESET, SURROGATES
from psu_deploy.nn.kernels.operator import Operator, contiguous_like

Implementation = Callable[..., Any]

BLOCK = 128
"""Neurons of a program, one per thread: few, so that a layer of a few thousand keeps more than a corner busy."""

_LAUNCH = {"BLOCK": BLOCK, "num_warps": BLOCK // 32, "enable_fp_fusion": False}


def spiking_unit(*inputs: Any) -> Tensor:
    """`psu_deploy::spiking_unit`."""
    from psu_deploy.nn.kernels import triton_units

    spikes, (arguments, levels, kinds) = contiguous_like(inputs[0]), _unit(*inputs)
    _run(triton_units.spiking_unit, inputs[0], *arguments, spikes, levels, TIES=inputs[11] == ">=", **kinds)
    return spikes


def spiking_unit_backward(grad: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
    """`psu_deploy::spiking_unit_backward`."""
    from psu_deploy.nn.kernels import triton_units

    (a, b), (arguments, levels, kinds) = inputs[:2], _unit(*inputs)
    of_a, none = contiguous_like(a), a.new_empty(0)
    slopes = none if b is None and kinds["ESTIMATOR"] in (IDENTITY, NO_RESET) else contiguous_like(a)
    kernel = triton_units.spiking_unit_backward
    _run(kernel, a, grad.contiguous(), *arguments, of_a, slopes, levels, **kinds)
    return of_a, none if b is None else slopes


def lif(x: Tensor, *inputs: Any) -> Tensor:
    """`psu_deploy::lif`."""
    from psu_deploy.nn.kernels import triton_lif

    spikes, (arguments, kinds) = contiguous_like(x), _lif(x, *inputs)
    _run(triton_lif.lif, x, *arguments, spikes, **kinds)
    return spikes


def lif_backward(grad: Tensor, x: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
    """`psu_deploy::lif_backward`."""
    from psu_deploy.nn.kernels import triton_lif

    of_x, (arguments, kinds) = contiguous_like(x), _lif(x, *inputs)
    sums = x.new_zeros(_programs(x), dtype=torch.float64)
    backward = {"DETACH": inputs[5], "SURROGATE": SURROGATES[inputs[7]]}
    _run(triton_lif.lif_backward, x, grad.contiguous(), *arguments, of_x, sums, **kinds, **backward)
    return of_x, sums.sum().to(x.dtype)


def exponentials(x: Tensor, gains: Tensor, decays: Tensor) -> Tensor:
    """`psu_deploy::exponentials`."""
    from psu_deploy.nn.kernels import triton_exponentials

    y = contiguous_like(x)
    coefficients = gains.contiguous(), decays.contiguous()
    _run(triton_exponentials.exponentials, x, x.contiguous(), *coefficients, y, **_rows(gains))
    return y


def exponentials_backward(grad: Tensor, x: Tensor, gains: Tensor, decays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`psu_deploy::exponentials_backward`."""
    from psu_deploy.nn.kernels import triton_exponentials

    of_x = contiguous_like(x)
    totals = x.new_empty(_programs(x), 2, len(gains), dtype=torch.float64)
    arguments = grad.contiguous(), x.contiguous(), gains.contiguous(), decays.contiguous(), of_x, totals
    _run(triton_exponentials.exponentials_backward, x, *arguments, **_rows(gains))
    of_gains, of_decays = totals.sum(0)
    return of_x, of_gains.to(x.dtype), (of_decays * gains).to(x.dtype)


def surrogate_numbers(surrogate: str, sharpness: float) -> tuple[float, float]:
    """P and q of a surrogate, as `triton_parts.slope` takes them."""
    numbers = {
        "atan": (sharpness / 2, math.pi / 2 * sharpness),
        "piecewise_linear": (sharpness, sharpness**2),
        "rectangle": (1 / (2 * sharpness), sharpness),
        "none": (1.0, 0.0),
    }
    return numbers[surrogate]


def _run(kernel: Any, x: Tensor, *arguments: Any, **kinds: Any) -> None:
    """Launch a kernel for all neurons of a sequence (T, ...), on its device."""
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        kernel[(_programs(x),)](*arguments, len(x), x.numel() // len(x), **kinds, **_LAUNCH)


def _programs(x: Tensor) -> int:
    return -(-x.numel() // len(x) // BLOCK)


def _unit(
    a: Tensor,
    b: Tensor | None,
    bias_a: Tensor | None,
    bias_b: Tensor | None,
    leak_a: Sequence[float],
    leak_b: Sequence[float],
    reset: Sequence[float],
    estimator: str,
    thresholds: Tensor | None,
    staircase: Sequence[float],
    threshold: float,
    fire_on: str,
    surrogate: str,
    sharpness: float,
) -> tuple[tuple[Tensor, ...], int, dict[str, Any]]:
    """What both kernels of a unit are told: tensors, how many steps a staircase has, and what they are compiled for."""
    nothing = (0.0, 0.0)
    values = *(leak_a or nothing), *(leak_b or nothing), *reset, *(staircase or nothing), threshold
    numbers = _numbers((*values, *surrogate_numbers(surrogate, sharpness)), a.dtype, a.device)
    kinds = {
        "TWO": b is not None,
        "LEAK_A": bool(leak_a),
        "LEAK_B": bool(leak_b),
        "BIAS_A": bias_a is not None,
        "BIAS_B": bias_b is not None,
        "ESTIMATOR": ESTIMATORS[estimator],
        "SURROGATE": SURROGATES[surrogate],
    }
    given = (numbers if x is None else x.contiguous() for x in (a, b, bias_a, bias_b))
    levels = 0 if thresholds is None else len(thresholds)
    return (*given, numbers, numbers if thresholds is None else thresholds.contiguous()), levels, kinds


def _lif(
    x: Tensor,
    share: Tensor | None,
    tau: float,
    threshold: float,
    hard: bool,
    decay_input: bool,
    detach_reset: bool,
    fire_on: str,
    surrogate: str,
    sharpness: float,
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """What both kernels of LIF are told: tensors, and what they are compiled for."""
    numbers = _numbers((tau, threshold, *surrogate_numbers(surrogate, sharpness)), x.dtype, x.device)
    kinds = {"SHARES": share is not None, "HARD": hard, "DECAYS": decay_input, "TIES": fire_on == ">="}
    return (x.contiguous(), numbers if share is None else share, numbers), kinds


def _rows(gains: Tensor) -> dict[str, int]:
    return {"TERMS": len(gains), "ROWS": 1 << (len(gains) - 1).bit_length()}


@lru_cache(maxsize=1024)
def _numbers(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers where a kernel can read them; they are brought there once."""
    return torch.tensor(values, dtype=dtype, device=device)


def _where_it_fits(implementation: Implementation, otherwise: Implementation) -> Implementation:
    """What the kernels cannot take goes to the reference: other numbers than these, several kinds of them, or none."""

    def computed(*inputs: Any) -> Any:
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        alike = {(value.dtype, value.device) for value in tensors}
        fits = len(alike) == 1 and tensors[0].dtype in (torch.float32, torch.float64)
        fits = fits and all(value.numel() for value in tensors)
        return (implementation if fits and choice.computes("cuda") else otherwise)(*inputs)

    return computed


def _register(operator: Operator, forward: Implementation, backward: Implementation) -> None:
    pairs = (forward, operator.reference), (backward, operator.reference_backward)
    operator.implement("cuda", *(_where_it_fits(*pair) for pair in pairs))


_register(operators.spiking_unit, spiking_unit, spiking_unit_backward)
_register(operators.lif, lif, lif_backward)
_register(operators.exponentials, exponentials, exponentials_backward)
