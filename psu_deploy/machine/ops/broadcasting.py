"""Features of different shapes, lined up at their last axes as numpy does it; the batch stays in front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from psu_deploy.errors import InputError
from psu_deploy.machine.ops.fields import Shape


def broadcast_shape(owner: object, *shapes: Shape) -> Shape:
    """Features that come of these. Raises `InputError` if they do not go together."""
    try:
        return tuple(int(n) for n in np.broadcast_shapes(*shapes))
    except ValueError as error:
        raise InputError(
            f"{type(owner).__name__} needs features that broadcast against each other, got {shapes}"
        ) from error


def widened(x: Tensor, axes: int) -> Tensor:
    """(B, *features) with ones behind the batch, so that there are at least so many feature axes."""
    missing = axes - (x.ndim - 1)
    return x.reshape(x.shape[0], *[1] * missing, *x.shape[1:]) if missing > 0 else x


def aligned(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Every input with as many axes as the one that has the most."""
    axes = max(x.ndim for x in inputs) - 1
    return [widened(x, axes) for x in inputs]
