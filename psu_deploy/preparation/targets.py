"""Which targets a network can be prepared for: one row for each, and a module that it stands in."""

from __future__ import annotations

from psu_deploy.errors import InputError
from psu_deploy.nn.neurons import Staircase
from psu_deploy.numerics.checks import check_whole
from psu_deploy.preparation.lava import LAVA
from psu_deploy.preparation.nir import NIR
from psu_deploy.preparation.record import LEVELS, Preparation

TARGETS: dict[str, Preparation] = {row.target: row for row in (NIR, LAVA)}
"""Name of a target -> how a network is prepared for it."""


def preparation_for(target: str, levels: int, exponentials: int | None) -> Preparation:
    """The row of a target.

    Raises:
        InputError: unless the target is one, the numbers are some, and the target has a use for them.
    """
    if not isinstance(target, str) or target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    Staircase(levels)  # says what is wrong with levels
    if exponentials is not None:
        check_whole("exponentials", exponentials)
        if exponentials < 1:
            raise InputError(f"exponentials is a number of terms and must be at least 1, got {exponentials}")
    row = TARGETS[target]
    for name, value, default in (("levels", levels, LEVELS), ("exponentials", exponentials, None)):
        if value != default and name in row.unused:
            raise InputError(row.unused[name].format(value))
    return row
