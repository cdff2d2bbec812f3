"""Give a trained network what a target can express: a staircase for the sigmoid, exponentials for T x T matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from psu_deploy.arguments import check_whole
from psu_deploy.errors import InputError, Problem, UnsupportedModelError
from psu_deploy.neurons import PSN, SPSN, Neuron, SpikingUnit, Staircase
from psu_deploy.temporal import CausalOperator, Exponentials, MaskedMatrix
from psu_deploy.temporal.fit import fit_exponentials

Target = Literal["nir"]
TARGETS: tuple[Target, ...] = ("nir",)

LEVELS = 15
"""Steps of a staircase unless somebody says otherwise: within 1/32 of the sigmoid."""

_ROLES = ("integrate", "estimate", "reset")


@dataclass(frozen=True)
class PreparedLayer:
    """What was replaced in one neuron layer.

    Args:
        path: where it is, as the module's path inside the model; "(root)" is the model itself.
        replaced: one sentence for every part, such as "estimate: CausalMatrix(8) -> Exponentials(4)".
        staircase_error: the largest distance of the staircase to the sigmoid; None where none was put in.
        fit_error: distance of the exponentials to the matrix they stand for, relative, as Frobenius norms; the largest
            where there are several; None where there is none.
        bias_error: the largest distance of the constant bias to the bias of a step; None where there is none.
    """

    path: str
    replaced: tuple[str, ...]
    staircase_error: float | None = None
    fit_error: float | None = None
    bias_error: float | None = None


@dataclass(frozen=True)
class PreparationReport:
    """What `prepare` replaced, one row per layer that changed. Printed, it is a table.

    Args:
        target: what the model was prepared for.
        layers: in the order of the model.
    """

    target: str
    layers: tuple[PreparedLayer, ...]

    def __str__(self) -> str:
        if not self.layers:
            return f"ready for {self.target}: nothing had to change"
        head = ("path", "staircase off by", "matrix off by", "bias off by", "replaced")
        rows = [head, *(_row(layer) for layer in self.layers)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        title = f"prepared for {self.target}: {len(self.layers)} layer(s) changed; fine-tune before you export"
        return "\n".join([title, *(f"  {line.rstrip()}" for line in lines)])


def prepare(
    model: nn.Module, target: Target = "nir", *, levels: int = LEVELS, exponentials: int | None = None
) -> PreparationReport:
    """Replace, in place, what a target cannot express by what is closest to it; then fine-tune and export.

    In every neuron of the PSU family the sigmoid becomes a `Staircase`; every operator that is defined for T steps only
    becomes the sum of exponentials closest to its matrix, and its bias per step the mean of it. Identity, leaks and
    sliding windows stay, as do LIF and PLIF. Device, dtype, training mode and `requires_grad` are kept.

    All or nothing: a model that cannot be prepared is left as it was. What was prepared already stays.
    An optimiser made before holds parameters that are no longer in the model: make a new one.

    Args:
        model: any module that holds neurons of this package, or is one.
        target: "nir".
        levels: steps of the staircase, 1..255; off by about `1/(2(levels + 1))`.
        exponentials: terms of every sum that replaces a matrix; None: the model must hold no matrix.

    Returns:
        What was replaced, and how far it is from what it stands for.

    Raises:
        InputError: if the target or a number is unknown, or there is no neuron in the model.
        UnsupportedModelError: listing every layer that cannot be prepared, and why.
        MissingExtraError: if a matrix is to be fitted and the `nir` extra (scipy) is not installed.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"prepare changes a torch module in place, got {type(model).__name__}; capture comes after it")
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise InputError("the model is on the device 'meta' and has no numbers; load its weights first")
    if target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    return PreparationReport(target, _replace(model, target, levels, exponentials, closest))


def prepare_structure(model: nn.Module, target: Target, levels: int, exponentials: int | None) -> None:
    """Give a model the modules that `prepare` would give it, with numbers that are yet to be loaded.

    Args:
        model: changed in place.
        target: as for `prepare`.
        levels: as for `prepare`.
        exponentials: as for `prepare`.

    Raises:
        InputError: as `prepare`.
        UnsupportedModelError: as `prepare`.
    """
    _replace(model, target, levels, exponentials, unfitted)


Approximate = Callable[[CausalOperator, int], Exponentials]
"""(operator with a horizon, number of terms) -> what takes its place."""


def closest(operator: CausalOperator, terms: int) -> Exponentials:
    """The sum of exponentials closest to an operator, with the mean of its bias."""
    steps = _horizon(operator)
    fit = fit_exponentials(operator.matrix(steps).numpy(), terms)
    bias = float(operator.bias(steps).mean()) if _has_bias(operator) else None
    return Exponentials(fit.gains, fit.decays, bias)


def unfitted(operator: CausalOperator, terms: int) -> Exponentials:
    """Exponentials of the same structure, near no matrix in particular."""
    return Exponentials.near_leak(terms, 0.0, 0.5, 0.0 if _has_bias(operator) else None)


def _replace(
    model: nn.Module, target: str, levels: int, exponentials: int | None, approximate: Approximate
) -> tuple[PreparedLayer, ...]:
    Staircase(levels)  # says what is wrong with levels
    if exponentials is not None:
        check_whole("exponentials", exponentials)
        if exponentials < 1:
            raise InputError(f"exponentials is a number of terms and must be at least 1, got {exponentials}")
    neurons = {path or "(root)": module for path, module in model.named_modules() if isinstance(module, Neuron | PSN)}
    if not neurons:
        raise InputError(
            f"there is no neuron of psu_deploy in this {type(model).__name__}: nothing to prepare for {target}"
        )
    problems = [p for path, neuron in neurons.items() for p in _problems(path, neuron, target, exponentials)]
    if problems:
        raise UnsupportedModelError(problems, f"prepare the model for {target}")
    units = {path: neuron for path, neuron in neurons.items() if isinstance(neuron, SpikingUnit)}
    bound = [operator for unit in units.values() for operator in _bound(unit).values()]
    # Everything is computed before anything is changed; an operator that neurons share is replaced by one they share.
    fitted = {operator: _like(operator, approximate(operator, exponentials or 1)) for operator in dict.fromkeys(bound)}
    changed = [_change(path, unit, levels, fitted) for path, unit in units.items()]
    return tuple(layer for layer in changed if layer.replaced)


def _problems(path: str, neuron: nn.Module, target: str, exponentials: int | None) -> list[Problem]:
    kind = type(neuron).__name__
    if isinstance(neuron, PSN):
        reason = f"looks ahead: step t needs inputs of later steps, and {target} runs one step at a time"
        return [Problem(path, kind, reason, "train with IPSU, RPSU or SlidingPSN")]
    if isinstance(neuron, SPSN):
        return [Problem(path, kind, f"fires at random, and {target} has no noise", "train with PSU or LIF")]
    if not isinstance(neuron, SpikingUnit):
        return []
    bound = _bound(neuron)
    fading = [operator for operator in bound.values() if isinstance(operator, MaskedMatrix) and operator.lambda_ < 1.0]
    if fading:
        reason = f"lambda_ = {fading[0].lambda_:g} < 1: rows still look ahead, so there is no serial form"
        return [Problem(path, kind, reason, "finish the masking: train on with neuron.lambda_ = 1.0")]
    problems = []
    if neuron.reset is not None and type(neuron.estimator) not in (nn.Sigmoid, nn.Identity, Staircase):
        reason = f"its estimator {type(neuron.estimator).__name__} has no form in {target}"
        problems.append(Problem(path, kind, reason, "use torch.nn.Sigmoid or psu.Staircase"))
    if bound and exponentials is None:
        reason = f"{' and '.join(bound)} has a matrix of {neuron.horizon} steps; {target} does not count steps"
        remedy = f'psu.prepare(model, target="{target}", exponentials=4), then fine-tune'
        problems.append(Problem(path, kind, reason, remedy))
    return problems


def _change(path: str, unit: SpikingUnit, levels: int, fitted: dict[CausalOperator, Exponentials]) -> PreparedLayer:
    replaced: list[str] = []
    staircase_error, fit_errors, bias_errors = None, [], []
    before = unit.estimator
    known = isinstance(before, Staircase) and before.levels == levels
    if unit.reset is not None and not known and isinstance(before, nn.Sigmoid | Staircase):
        unit.estimator = _placed(Staircase(levels), unit)
        staircase_error = unit.estimator.sup_error
        replaced.append(f"estimator: {_name(before)} -> {_name(unit.estimator)}")
    for role, operator in _bound(unit).items():
        new, steps = fitted[operator], _horizon(operator)
        setattr(unit, role, new)
        fit_errors.append(_relative(operator.matrix(steps), new.matrix(steps)))
        if new.offset is not None:
            bias_errors.append(float((operator.bias(steps) - new.bias(steps)).abs().max()))
        replaced.append(f"{role}: {_name(operator)} -> {_name(new)}")
    return PreparedLayer(
        path, tuple(replaced), staircase_error, max(fit_errors, default=None), max(bias_errors, default=None)
    )


def _bound(unit: SpikingUnit) -> dict[str, CausalOperator]:
    """The operators of a neuron that are defined for T steps only, by the attribute that holds them.

    An attribute that only shows another one, as PPSU's `estimate` does, holds nothing.
    """
    held = {role: unit._modules.get(role) for role in _ROLES}
    return {role: o for role, o in held.items() if isinstance(o, CausalOperator) and o.horizon is not None}


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


def _placed(staircase: Staircase, unit: SpikingUnit) -> Staircase:
    """On the device of the unit's parameters, where it has any; elsewhere the input's device is as good."""
    tensor = next(unit.parameters(), None)
    return (staircase if tensor is None else staircase.to(tensor.device)).train(unit.training)


def _relative(matrix: torch.Tensor, approximation: torch.Tensor) -> float:
    size = float(matrix.norm())
    return float((matrix - approximation).norm()) / size if size else 0.0


def _name(module: nn.Module) -> str:
    match module:
        case Staircase():
            return f"Staircase({module.levels})"
        case Exponentials():
            return f"Exponentials({module.gains.numel()})"
        case CausalOperator():
            return f"{type(module).__name__}({module.horizon})"
    return type(module).__name__


def _row(layer: PreparedLayer) -> tuple[str, str, str, str, str]:
    staircase, fit, bias = (
        "-" if error is None else text.format(error)
        for error, text in (
            (layer.staircase_error, "{:.4f}"),
            (layer.fit_error, "{:.2%}"),
            (layer.bias_error, "{:.4f}"),
        )
    )
    return layer.path, staircase, fit, bias, "; ".join(layer.replaced)
