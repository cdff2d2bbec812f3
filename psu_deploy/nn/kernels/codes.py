"""What a kernel is told by name, as the numbers that compiled code compares."""

from __future__ import annotations

SIGMOID, STAIRCASE, IDENTITY, NO_RESET = 0, 1, 2, 3
ESTIMATORS = {"sigmoid": SIGMOID, "staircase": STAIRCASE, "identity": IDENTITY, "none": NO_RESET}

ATAN, PIECEWISE_LINEAR, RECTANGLE, NO_SURROGATE = 0, 1, 2, 3
SURROGATES = {"atan": ATAN, "piecewise_linear": PIECEWISE_LINEAR, "rectangle": RECTANGLE, "none": NO_SURROGATE}
