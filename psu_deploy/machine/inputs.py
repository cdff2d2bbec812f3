"""Strict checks of what a machine or a runner is fed. Work on numpy arrays and torch tensors alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from psu_deploy.errors import HorizonError, InputError, StateError
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.numerics.checks import is_whole

_MOST_SAMPLES = 2**48
"""More than any memory holds, and few enough for numpy to say so in its own words."""

_MOST_STEPS = 2**62
"""Of a step counter: it is 64 bits wide and must not wrap around."""


def check_sequence(x: Any, features: Shape, horizon: int | None, dtypes: tuple[str, ...]) -> None:
    """Check a whole sequence: time-first, (T, B, *features), T within the horizon.

    Raises:
        InputError: wrong type, dtype, shape, or NaN.
        HorizonError: more steps than the horizon.
    """
    _check_array(x, dtypes)
    if x.ndim != len(features) + 2 or tuple(x.shape[2:]) != features or not all(x.shape[:2]):
        raise InputError(
            f"x must be time-first, (T, B, {_spell(features)}) with T, B >= 1; got {tuple(x.shape)}{_hint(x, features)}"
        )
    if horizon is not None and len(x) > horizon:
        batch_first = x.shape[1] == horizon
        advice = (
            f"axis 1 has {horizon}: is x batch-first? Swap the axes with x.swapaxes(0, 1)"
            if batch_first
            else f"cut the sequence into windows of {horizon} and reset between them"
        )
        raise HorizonError(f"x has {len(x)} steps (axis 0) but the machine's horizon is {horizon}; {advice}")
    check_finite(x)


def check_batch_size(batch_size: Any) -> int:
    """The number of samples, if it is a whole number, Python's or numpy's, at least one; raise `InputError` if not."""
    if not is_whole(batch_size) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number >= 1, got {batch_size!r}")
    if batch_size >= _MOST_SAMPLES:
        raise InputError(f"batch_size must be below 2**48, got {batch_size}")
    return int(batch_size)


def check_samples(samples: int, batch: int | None) -> None:
    """Raise `StateError` unless a runner was reset for as many samples as it is given."""
    if samples != batch:
        raise StateError(
            f"the state is that of {batch} sample(s), x has {samples}; call reset(batch_size={samples}) first"
        )


def check_step(x: Any, features: Shape, dtypes: tuple[str, ...]) -> None:
    """Check one step: (B, *features).

    Raises:
        InputError: wrong type, dtype, shape, or NaN.
    """
    _check_array(x, dtypes)
    if x.ndim != len(features) + 1 or tuple(x.shape[1:]) != features or not x.shape[0]:
        raise InputError(f"one step must be (B, {_spell(features)}) with B >= 1; got {tuple(x.shape)}")
    check_finite(x)


def check_finite(x: Any) -> None:
    """Raise `InputError` if x holds NaN or infinity, and say where the first one is."""
    bad = ~(torch.isfinite(x) if isinstance(x, torch.Tensor) else np.isfinite(x))
    if bool(bad.any()):
        where = tuple(int(i[0]) for i in (bad.nonzero().T if isinstance(bad, torch.Tensor) else bad.nonzero()))
        raise InputError(f"x holds NaN or infinity, first at index {where}; clean the input before running")


def check_static(x: Any) -> None:
    """Raise `InputError` if a sequence changes from step to step."""
    if not bool((x == x[:1]).all()):
        raise InputError(
            "this network reads its input in the first step only, as one image shown at every step, but x changes from "
            "step to step; show every image with numpy.repeat(images[None], T, axis=0)"
        )


def check_horizon(step: int, horizon: int | None, steps: int = 1) -> None:
    """Raise `HorizonError` if there are not `steps` steps from number `step` (from 0) on."""
    if horizon is not None and step + steps > horizon:
        raise HorizonError(
            f"step {max(step, horizon) + 1} is past the horizon: the network is defined for {horizon} steps; "
            "reset and start a new window"
        )


def check_numbers(name: str, value: Any) -> None:
    """Raise `StateError` unless a tensor of state, as given, is real numbers, all finite."""
    if isinstance(value, torch.Tensor):
        real = not (value.is_complex() or value.dtype == torch.bool)
    else:
        value = _as_array(name, value)
        real = value.dtype.kind in "fiu"
    if not real:
        dtype = str(value.dtype).removeprefix("torch.")
        raise StateError(f"state {name!r} must be real numbers, float32 or float64, got {dtype}")
    if not bool((torch.isfinite(value) if isinstance(value, torch.Tensor) else np.isfinite(value)).all()):
        raise StateError(
            f"state {name!r} holds NaN or infinity; start from initial_state() or from a state that was read"
        )


def state_shape(name: str, value: Any) -> tuple[int, ...]:
    """Shape of a tensor of state, as given; raise `StateError` if it has none."""
    return tuple(value.shape if isinstance(value, torch.Tensor) else _as_array(name, value).shape)


def check_counter(step: Any) -> None:
    """Raise `StateError` unless a step counter, as given, is a whole number that leaves room to count."""
    value = step.item() if isinstance(step, np.ndarray | np.generic | torch.Tensor) else step
    if not is_whole(value) or not 0 <= value < _MOST_STEPS:
        raise StateError(f"the step counter must be a whole number >= 0 and below 2**62, got {value!r}")


def numpy_state(name: str, value: Any, dtype: str) -> np.ndarray[Any, Any]:
    """A checked tensor of state, numpy or torch, in an engine's dtype.

    Raises:
        StateError: if a number is too large for the dtype.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy() if value.is_floating_point() else value.cpu().numpy()
    with np.errstate(over="ignore"):
        array = np.asarray(value, dtype=dtype)
    check_fits(name, bool(np.isfinite(array).all()), dtype)
    return array


def check_fits(name: str, finite: bool, dtype: str) -> None:
    """Raise `StateError` if a tensor of state was finite before it got a dtype, and now is not."""
    if not finite:
        raise StateError(f"state {name!r} holds numbers too large for {dtype}")


def _as_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise StateError(f"state {name!r} must be an array of numbers, got {type(value).__name__}") from error


def _check_array(x: Any, dtypes: tuple[str, ...]) -> None:
    if not isinstance(x, np.ndarray | torch.Tensor):
        raise InputError(f"x must be a numpy array or a torch tensor, got {type(x).__name__}")
    dtype = str(x.dtype).removeprefix("torch.")
    if dtype not in dtypes:
        raise InputError(f"x must be {' or '.join(dtypes)}, got {dtype}; {_conversion(x, dtypes[0])}")


def _conversion(x: Any, dtype: str) -> str:
    call = f"x.to(torch.{dtype})" if isinstance(x, torch.Tensor) else f"x.astype(numpy.{dtype})"
    return f"convert with {call}"


def _spell(features: Shape) -> str:
    return ", ".join(map(str, features))


def _hint(x: Any, features: Shape) -> str:
    if x.ndim == len(features) + 1 and tuple(x.shape[1:]) == features:
        return "; an axis is missing: x[:, None] makes a sequence one sample, x[None] makes a batch one step"
    return ""
