"""Numbers too small to matter.

Below 2**-126 in float32 (2**-1022 in float64) numbers are subnormal: they lose bits one after the other, and processors
take up to a hundred times as long over them. A leak of 0.5 has come so far down after 126 steps, and a T x T matrix
that is made of it is full of them.

So coefficients that are subnormal in the precision of a run are zero in it: in the matrices that training multiplies
with, in the constants of the reference interpreter, and in those of an ONNX file. A state machine, its .psm file and
its content hash keep them as they are, and the rounding bound counts them as an error (`machine.ops.roundoff`).
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = TypeVar("Numbers", Tensor, NDArray[Any])


def flushed(values: Numbers) -> Numbers:
    """The same numbers in the same dtype, subnormal ones as a zero of their sign."""
    return values * (abs(values) >= smallest_normal(values.dtype))


def smallest_normal(dtype: Any) -> float:
    """What is smaller than this is subnormal."""
    return float((torch.finfo if isinstance(dtype, torch.dtype) else np.finfo)(dtype).tiny)
