"""What it is to prepare a network for a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from psu_deploy.errors import Problem
from psu_deploy.nn.temporal import CausalOperator, Exponentials
from psu_deploy.preparation.report import Column, PreparedLayer

LEVELS = 15
"""Steps of a staircase unless somebody says otherwise: within 1/32 of the sigmoid."""

Approximate = Callable[[CausalOperator, int], Exponentials]
"""(operator with a horizon, number of terms) -> what takes its place."""


@dataclass(frozen=True)
class Arguments:
    """What `prepare` was told.

    Args:
        levels: steps of a staircase.
        exponentials: terms of every sum that replaces a matrix; None: the model must hold no matrix.
        approximate: makes these sums.
    """

    levels: int
    exponentials: int | None
    approximate: Approximate


@dataclass(frozen=True)
class Preparation:
    """How a network is prepared for one target.

    Args:
        target: its name.
        problems: (model, path -> neuron, arguments) -> everything that keeps the model from the target.
        replace: (model, arguments) -> its layers; changes the model, in which there is no problem left.
        columns: of the report.
        unused: argument that means nothing to the target -> a sentence on it, with `{}` for what it was.
    """

    target: str
    problems: Callable[[nn.Module, Mapping[str, nn.Module], Arguments], list[Problem]]
    replace: Callable[[nn.Module, Arguments], Sequence[PreparedLayer]]
    columns: tuple[Column, ...]
    unused: Mapping[str, str] = field(default_factory=dict)
