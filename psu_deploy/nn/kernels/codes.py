"""What a kernel is told by name, as the numbers that compiled code compares."""

from __future__ import annotations

SIGMOID, STAIRCASE, IDENTITY = 0, 1, 2
ESTIMATORS = {"sigmoid": SIGMOID, "staircase": STAIRCASE, "identity": IDENTITY}

ATAN, PIECEWISE_LINEAR, RECTANGLE, NO_SURROGATE = 0, 1, 2, 3
SURROGATES = {"atan": ATAN, "piecewise_linear": PIECEWISE_LINEAR, "rectangle": RECTANGLE, "none": NO_SURROGATE}
