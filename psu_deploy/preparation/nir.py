"""For NIR: a staircase for the sigmoid, exponentials for T x T matrices."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from psu_deploy.errors import Problem
from psu_deploy.nn.neurons import SigmoidTable, SpikingUnit, Staircase
from psu_deploy.nn.temporal import CausalOperator, Exponentials
from psu_deploy.nn.temporal.fit import fit_exponentials
from psu_deploy.preparation.neurons import (
    bound_operators,
    estimator_problem,
    name_of,
    place_estimator,
    problem_of,
    units_of,
)
from psu_deploy.preparation.record import Arguments, Preparation
from psu_deploy.preparation.report import Column, PreparedLayer


def closest(operator: CausalOperator, terms: int) -> Exponentials:
    """The sum of exponentials closest to an operator, with the mean of its bias."""
    steps = _horizon(operator)
    fit = fit_exponentials(operator.matrix(steps).numpy(), terms)
    bias = float(operator.bias(steps).mean()) if _has_bias(operator) else None
    return Exponentials(fit.gains, fit.decays, bias)


def unfitted(operator: CausalOperator, terms: int) -> Exponentials:
    """Exponentials of the same structure, near no matrix in particular."""
    return Exponentials.near_leak(terms, 0.0, 0.5, 0.0 if _has_bias(operator) else None)


def problems(model: nn.Module, neurons: Mapping[str, nn.Module], given: Arguments) -> list[Problem]:
    """Everything that keeps a model with these neurons from NIR."""
    return [p for path, neuron in neurons.items() for p in _problems(path, neuron, given.exponentials)]


def _problems(path: str, neuron: nn.Module, exponentials: int | None) -> list[Problem]:
    found = [problem_of(path, neuron, "nir")]
    if isinstance(neuron, SpikingUnit) and found == [None]:
        found = [estimator_problem(path, neuron, "nir"), _matrix_problem(path, neuron, exponentials)]
    return [problem for problem in found if problem is not None]


def _matrix_problem(path: str, unit: SpikingUnit, exponentials: int | None) -> Problem | None:
    bound = bound_operators(unit)
    if not bound or exponentials is not None:
        return None
    reason = f"{' and '.join(bound)} has a matrix of {unit.horizon} steps; nir does not count steps"
    remedy = 'psu.prepare(model, target="nir", exponentials=4), then fine-tune'
    return Problem(path, type(unit).__name__, reason, remedy)


def replace(model: nn.Module, given: Arguments) -> list[PreparedLayer]:
    """Replace in every neuron what NIR cannot express; there is no problem left."""
    units = units_of(model)
    bound = [operator for unit in units.values() for operator in bound_operators(unit).values()]
    # Everything is computed before anything is changed; an operator that neurons share is replaced by one they share.
    terms = given.exponentials or 1
    fitted = {operator: _like(operator, given.approximate(operator, terms)) for operator in dict.fromkeys(bound)}
    return [_change(path, unit, given.levels, fitted) for path, unit in units.items()]


def _change(path: str, unit: SpikingUnit, levels: int, fitted: Mapping[CausalOperator, Exponentials]) -> PreparedLayer:
    replaced: list[str] = []
    staircase_error, fit_errors, bias_errors = None, [], []
    before = unit.estimator
    known = isinstance(before, Staircase) and before.levels == levels
    if unit.reset is not None and not known and isinstance(before, nn.Sigmoid | Staircase | SigmoidTable):
        stairs = Staircase(levels)
        staircase_error = stairs.sup_error
        replaced.append(place_estimator(unit, stairs))
    for role, operator in bound_operators(unit).items():
        new, steps = fitted[operator], _horizon(operator)
        setattr(unit, role, new)
        fit_errors.append(_relative(operator.matrix(steps), new.matrix(steps)))
        if new.offset is not None:
            bias_errors.append(float((operator.bias(steps) - new.bias(steps)).abs().max()))
        replaced.append(f"{role}: {name_of(operator)}({steps}) -> Exponentials({new.gains.numel()})")
    return PreparedLayer(
        path, tuple(replaced), staircase_error, max(fit_errors, default=None), max(bias_errors, default=None)
    )


def _horizon(operator: CausalOperator) -> int:
    assert operator.horizon is not None
    return operator.horizon


def _has_bias(operator: CausalOperator) -> bool:
    """Whether it learns one, or has one. A matter of structure for our own: a loaded model has the same."""
    return getattr(operator, "step_bias", None) is not None or bool(operator.bias(_horizon(operator)).any())


def _like(operator: CausalOperator, new: Exponentials) -> Exponentials:
    """Device, dtype, training mode and requires_grad of the parameters that are replaced."""
    old = next(operator.parameters(), None)
    if old is not None:
        new.to(old.device, old.dtype).requires_grad_(old.requires_grad)
    return new.train(operator.training)


def _relative(matrix: torch.Tensor, approximation: torch.Tensor) -> float:
    size = float(matrix.norm())
    return float((matrix - approximation).norm()) / size if size else 0.0


NIR = Preparation(
    target="nir",
    problems=problems,
    replace=replace,
    columns=(
        Column("staircase off by", "staircase_error", "{:.4f}"),
        Column("matrix off by", "fit_error", "{:.2%}"),
        Column("bias off by", "bias_error", "{:.4f}"),
    ),
)
