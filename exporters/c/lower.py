"""Layers of the state machine -> functions of C, in the order of the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psu_deploy.exporters.c import (
    along_time,
    arithmetic,
    convolution,
    functions,
    linear,
    neurons,
    normalisation,
    pooling,
    reduction,
    shape,
)
from psu_deploy.exporters.c.neurons import ESTIMATORS
from psu_deploy.exporters.c.operators import OPERATORS
from psu_deploy.exporters.c.scope import Scope
from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine.kinds import Vocabulary

RULES: dict[type, Callable[[Any, Scope], None]] = {
    **linear.RULES,
    **convolution.RULES,
    **pooling.RULES,
    **functions.RULES,
    **arithmetic.RULES,
    **shape.RULES,
    **reduction.RULES,
    **normalisation.RULES,
    **along_time.RULES,
    **neurons.RULES,
}
"""Kind -> rule."""

WITHOUT_CODE: dict[type, None] = {**shape.ALIASES, ops.Outputs: None}
"""Kinds that compute nothing: what they read lies where it lay, or is copied to the outputs."""

VOCABULARY = Vocabulary("the C exporter", {**RULES, **WITHOUT_CODE}, OPERATORS, ESTIMATORS)
"""Every kind that has a rule."""


def check(machine: StateMachine) -> None:
    """Let only machines pass that can be lowered.

    Raises:
        UnsupportedModelError: listing every kind of layer, operator and estimator without a rule.
    """
    VOCABULARY.check(machine.nodes, "export the network to C")
