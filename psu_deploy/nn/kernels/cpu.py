"""The operators on a CPU: Numba where it is installed and the numbers are float32, the reference for all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psu_deploy.nn.kernels import choice, operators
from psu_deploy.nn.kernels.codes import ESTIMATORS, SURROGATES
from psu_deploy.nn.kernels.operator import Operator, contiguous_like
from psu_deploy.nn.kernels.threads import GRAIN, share_out

Rows = NDArray[np.float32]
Implementation = Callable[..., Any]

_LIF_WIDEST = 4096
"""Neurons of a block of LIF, which computes so little that it waits for memory: long rows are read ahead."""

_NO_ROW = np.empty(0, np.float32)
_NO_ROWS = np.empty((0, 0), np.float32)


def spiking_unit(*inputs: Any) -> Tensor:
    """`psu_deploy::spiking_unit`."""
    from psu_deploy.nn.kernels import numba_units

    a, (fire_on, surrogate, _) = inputs[0], inputs[11:]
    spikes = contiguous_like(a)
    _run(numba_units.spiking_unit, a, *_unit(*inputs[:11]), fire_on == ">=", SURROGATES[surrogate], _rows(spikes))
    return spikes


def spiking_unit_backward(grad: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
    """`psu_deploy::spiking_unit_backward`."""
    from psu_deploy.nn.kernels import numba_units

    a, b, (_, surrogate, sharpness) = inputs[0], inputs[1], inputs[11:]
    of_a, of_b = contiguous_like(a), None if b is None else contiguous_like(b)
    surrogate_ = SURROGATES[surrogate], sharpness
    arguments = _rows(grad), *_unit(*inputs[:11]), *surrogate_, _rows(of_a), _rows(of_b)
    _run(numba_units.spiking_unit_backward, a, *arguments)
    return of_a, a.new_empty(0) if of_b is None else of_b


def lif(x: Tensor, *inputs: Any) -> Tensor:
    """`psu_deploy::lif`."""
    from psu_deploy.nn.kernels import numba_lif

    share, tau, threshold, hard, decay_input, _, fire_on, _, _ = inputs
    spikes = contiguous_like(x)
    numbers = *_share(share), tau, threshold, hard, decay_input, fire_on == ">="
    _run(numba_lif.lif, x, _rows(x), *numbers, _rows(spikes), widest=_LIF_WIDEST)
    return spikes


def lif_backward(grad: Tensor, x: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
    """`psu_deploy::lif_backward`."""
    from psu_deploy.nn.kernels import numba_lif

    share, tau, threshold, hard, decay_input, detach_reset, fire_on, surrogate, sharpness = inputs
    of_x = contiguous_like(x)
    of_share = np.zeros(x.numel() // x.shape[0])  # neuron by neuron, so that threads cannot change the sum
    numbers = *_share(share), tau, threshold, hard, decay_input, detach_reset, fire_on == ">="
    surrogate_ = SURROGATES[surrogate], sharpness
    _run(
        numba_lif.lif_backward,
        x,
        _rows(grad),
        _rows(x),
        *numbers,
        *surrogate_,
        _rows(of_x),
        of_share,
        widest=_LIF_WIDEST,
    )
    return of_x, x.new_tensor(of_share.sum())


def exponentials(x: Tensor, gains: Tensor, decays: Tensor) -> Tensor:
    """`psu_deploy::exponentials`."""
    from psu_deploy.nn.kernels import numba_exponentials

    y = contiguous_like(x)
    _run(numba_exponentials.exponentials, x, _rows(x), _row(gains), _row(decays), _rows(y))
    return y


def exponentials_backward(grad: Tensor, x: Tensor, gains: Tensor, decays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`psu_deploy::exponentials_backward`."""
    from psu_deploy.nn.kernels import numba_exponentials

    of_x = contiguous_like(x)
    totals = np.zeros((2, gains.shape[0], x.numel() // x.shape[0] // GRAIN + 1))
    coefficients = _row(gains), _row(decays)
    kernel = numba_exponentials.exponentials_backward
    _run(kernel, x, _rows(grad), _rows(x), *coefficients, _rows(of_x), totals)
    of_gains, of_decays = torch.from_numpy(totals.sum(2)).float()
    return of_x, of_gains, of_decays


def _run(kernel: Any, x: Tensor, *arguments: Any, widest: int = 1024) -> None:
    """Call a kernel for all neurons, in blocks that fit the caches with what the way back keeps of every step."""
    numbers, steps = x.numel(), x.shape[0]
    most = max(GRAIN, min(widest, (1 << 22) // steps // GRAIN * GRAIN))
    share_out(numbers // steps, numbers, most, lambda first, last, block: kernel(*arguments, first, last, block))


def _unit(
    a: Tensor,
    b: Tensor | None,
    bias_a: Tensor | None,
    bias_b: Tensor | None,
    leak_a: list[float],
    leak_b: list[float],
    reset: list[float],
    estimator: str,
    thresholds: Tensor | None,
    staircase: list[float],
    threshold: float,
) -> tuple[Any, ...]:
    """What both kernels of a unit are told first."""
    sequences = _rows(a), _rows(b), _row(bias_a), _row(bias_b)
    leaks = *_leak(leak_a), *_leak(leak_b), *reset
    return *sequences, *leaks, ESTIMATORS[estimator], _row(thresholds), *(staircase or (0.0, 0.0)), threshold


def _leak(leak: list[float]) -> tuple[bool, float, float]:
    return (True, leak[0], leak[1]) if leak else (False, 0.0, 0.0)


def _share(share: Tensor | None) -> tuple[bool, float]:
    return (False, 0.0) if share is None else (True, float(share))


def _rows(x: Tensor | None) -> Rows:
    """A sequence as (T, N); empty where there is none."""
    if x is None:
        return _NO_ROWS
    rows: Rows = x.detach().contiguous().numpy()
    return rows.reshape(rows.shape[0], -1)


def _row(x: Tensor | None) -> Rows:
    return _NO_ROW if x is None else x.detach().contiguous().numpy()


def _where_it_fits(implementation: Implementation, otherwise: Implementation) -> Implementation:
    """What the kernels cannot take goes to the reference."""

    def computed(*inputs: Any) -> Any:
        for value in inputs:
            if isinstance(value, Tensor) and (value.dtype != torch.float32 or not value.numel()):
                return otherwise(*inputs)
        return (implementation if choice.computes("cpu") else otherwise)(*inputs)

    return computed


def _register(operator: Operator, forward: Implementation, backward: Implementation) -> None:
    pairs = (forward, operator.reference), (backward, operator.reference_backward)
    operator.implement("cpu", *(_where_it_fits(*pair) for pair in pairs))


_register(operators.spiking_unit, spiking_unit, spiking_unit_backward)
_register(operators.lif, lif, lif_backward)
_register(operators.exponentials, exponentials, exponentials_backward)
