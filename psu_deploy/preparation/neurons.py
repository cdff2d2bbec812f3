"""What both targets ask of neurons: who cannot be prepared at all, and another estimator in the sigmoid's place."""

from __future__ import annotations

from torch import nn

from psu_deploy.errors import Problem
from psu_deploy.nn.neurons import PSN, SPSN, Neuron, SigmoidTable, SpikingUnit, Staircase
from psu_deploy.nn.temporal import CausalOperator, MaskedMatrix

_ROLES = ("integrate", "estimate", "reset")


def neurons_of(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> neuron, every one once."""
    return {path or "(root)": module for path, module in model.named_modules() if isinstance(module, Neuron | PSN)}


def units_of(model: nn.Module) -> dict[str, SpikingUnit]:
    """Path -> neuron made of operators and an estimator."""
    return {path: neuron for path, neuron in neurons_of(model).items() if isinstance(neuron, SpikingUnit)}


def problem_of(path: str, neuron: nn.Module, target: str) -> Problem | None:
    """What keeps a neuron from any target that runs one step at a time, in plain numbers."""
    kind = type(neuron).__name__
    if isinstance(neuron, PSN):
        reason = f"looks ahead: step t needs inputs of later steps, and {target} runs one step at a time"
        return Problem(path, kind, reason, "train with IPSU, RPSU or SlidingPSN")
    if isinstance(neuron, SPSN):
        return Problem(path, kind, f"fires at random, and {target} has no noise", "train with PSU or LIF")
    if not isinstance(neuron, SpikingUnit):
        return None
    fading = [o for o in bound_operators(neuron).values() if isinstance(o, MaskedMatrix) and o.lambda_ < 1.0]
    if fading:
        reason = f"lambda_ = {fading[0].lambda_:g} < 1: rows still look ahead, so there is no serial form"
        return Problem(path, kind, reason, "finish the masking: train on with neuron.lambda_ = 1.0")
    return None


def estimator_problem(path: str, unit: SpikingUnit, target: str) -> Problem | None:
    """An estimator somebody else wrote, where it matters."""
    if unit.reset is None or type(unit.estimator) in (nn.Sigmoid, nn.Identity, Staircase, SigmoidTable):
        return None
    reason = f"its estimator {type(unit.estimator).__name__} has no form in {target}"
    return Problem(path, type(unit).__name__, reason, "use torch.nn.Sigmoid, psu.Staircase or psu.SigmoidTable")


def bound_operators(unit: SpikingUnit) -> dict[str, CausalOperator]:
    """The operators of a neuron that are defined for T steps only, by the attribute that holds them.

    An attribute that only shows another one, as PPSU's `estimate` does, holds nothing.
    """
    held = {role: unit._modules.get(role) for role in _ROLES}
    return {role: o for role, o in held.items() if isinstance(o, CausalOperator) and o.horizon is not None}


def place_estimator(unit: SpikingUnit, new: Staircase | SigmoidTable) -> str:
    """Put it in, on the device of the unit's parameters where it has any; elsewhere the input's device is as good.

    Returns:
        What was replaced by what, for the report.
    """
    before, tensor = unit.estimator, next(unit.parameters(), None)
    unit.estimator = (new if tensor is None else new.to(tensor.device)).train(unit.training)
    return f"estimator: {name_of(before)} -> {name_of(new)}"


def name_of(module: nn.Module) -> str:
    """As a report calls an estimator."""
    return f"Staircase({module.levels})" if isinstance(module, Staircase) else type(module).__name__
