"""Strict checks of what a machine or a runner is fed. Work on numpy arrays and torch tensors alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from psu_deploy.errors import HorizonError, InputError, StateError
from psu_deploy.machine.fields import Shape


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


def check_batch_size(batch_size: Any) -> None:
    """Raise `InputError` unless it is a whole number of samples, at least one."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number >= 1, got {batch_size!r}")


def check_reset(batch: int | None) -> None:
    """Raise `StateError` unless a runner was reset: its batch size is known since then."""
    if batch is None:
        raise StateError("call reset(batch_size=...) before the first step")


def check_samples(samples: int, batch: int | None) -> None:
    """Raise `StateError` unless a runner was reset for as many samples as it is given."""
    check_reset(batch)
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


def check_horizon(step: int, horizon: int | None) -> None:
    """Raise `HorizonError` if there is no step number `step` (from 0)."""
    if horizon is not None and step >= horizon:
        raise HorizonError(
            f"step {step + 1} is past the horizon: the network is defined for {horizon} steps; "
            "reset and start a new window"
        )


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
