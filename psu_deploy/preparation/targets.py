"""Which targets a network can be prepared for, and the arguments each of them takes."""

from __future__ import annotations

from typing import Literal

from psu_deploy.errors import InputError
from psu_deploy.nn.neurons import Staircase
from psu_deploy.numerics.checks import check_whole

Target = Literal["nir", "lava"]
TARGETS: tuple[Target, ...] = ("nir", "lava")

LEVELS = 15
"""Steps of a staircase unless somebody says otherwise: within 1/32 of the sigmoid."""


def check_arguments(target: Target, levels: int, exponentials: int | None) -> None:
    """Raise `InputError` unless the target is one, the numbers are some, and the target has a use for them."""
    if target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    Staircase(levels)  # says what is wrong with levels
    if exponentials is not None:
        check_whole("exponentials", exponentials)
        if exponentials < 1:
            raise InputError(f"exponentials is a number of terms and must be at least 1, got {exponentials}")
    if target == "lava":
        _check_unused(levels, exponentials)


def _check_unused(levels: int, exponentials: int | None) -> None:
    if levels != LEVELS:
        raise InputError(
            f"levels is for a staircase, and lava has a table of the sigmoid: leave levels out, got {levels}; "
            "a psu.Staircase that is in the model stays"
        )
    if exponentials is not None:
        raise InputError(f"lava keeps T x T matrices as they are: leave exponentials out, got {exponentials}")
