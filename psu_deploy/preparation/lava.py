"""For Lava, the fixed point of Loihi 2: a table for the sigmoid, 8 bits for every weight between neurons."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.utils import parametrize

from psu_deploy.errors import InputError, Problem
from psu_deploy.nn.neurons import SigmoidTable, SpikingUnit
from psu_deploy.nn.quantisation import Int8Weight
from psu_deploy.preparation.neurons import estimator_problem, place_estimator, problem_of
from psu_deploy.preparation.record import Arguments, Preparation
from psu_deploy.preparation.report import Column, PreparedLayer

_WEIGHTED = nn.Linear | nn.Conv1d | nn.Conv2d


def problems(model: nn.Module, neurons: Mapping[str, nn.Module], given: Arguments) -> list[Problem]:
    """Everything that keeps a model with these neurons from Lava."""
    found = [_neuron_problem(path, neuron) for path, neuron in neurons.items()]
    found += [_weight_problem(path, layer) for path, layer in _unrounded(model).items()]
    return [problem for problem in found if problem is not None]


def _neuron_problem(path: str, neuron: nn.Module) -> Problem | None:
    problem = problem_of(path, neuron, "lava")
    if problem is None and isinstance(neuron, SpikingUnit):
        problem = estimator_problem(path, neuron, "lava")
    return problem


def _weight_problem(path: str, layer: nn.Module) -> Problem | None:
    """`parametrize` takes parameters; a hook of the old kind computes an attribute."""
    if "weight" in layer._parameters or parametrize.is_parametrized(layer, "weight"):
        return None
    reason = "its weight is no parameter: a hook computes it"
    return Problem(path, type(layer).__name__, reason, "remove the hook, or use torch.nn.utils.parametrizations")


def replace(model: nn.Module, given: Arguments) -> list[PreparedLayer]:
    """Replace what Lava cannot express, in the order of the model; there is no problem left.

    Raises:
        InputError: if a weight is not finite; nothing has changed then.
    """
    unrounded = _unrounded(model)
    for path, layer in unrounded.items():
        _check_finite(path, layer)
    layers = []
    for path, module in list(model.named_modules()):
        if path in unrounded:
            layers.append(_round_weight(path, module))
        elif isinstance(module, SpikingUnit):
            layers.append(_change(path or "(root)", module))
    return layers


def _unrounded(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> layer whose weight has more than 8 bits, every one once."""
    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, _WEIGHTED)}
    return {path: layer for path, layer in layers.items() if not _is_rounded(layer)}


def _is_rounded(layer: nn.Module) -> bool:
    path = "parametrizations.weight"
    known = parametrize.is_parametrized(layer, "weight")
    return known and any(isinstance(step, Int8Weight) for step in layer.get_submodule(path).children())


def _check_finite(path: str, layer: nn.Module) -> None:
    if not _weight(layer).isfinite().all():
        raise InputError(f"the weight of {path!r} holds NaN or infinity and cannot be rounded to 8 bits; train it anew")


def _round_weight(path: str, layer: nn.Module) -> PreparedLayer:
    before = _weight(layer)
    parametrize.register_parametrization(layer, "weight", Int8Weight())
    layer.get_submodule("parametrizations").train(layer.training)
    return PreparedLayer(path, ("weight -> 8 bits per channel",), weight_error=_share(before, _weight(layer)))


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


def _share(before: torch.Tensor, after: torch.Tensor) -> float:
    largest = float(before.abs().max())
    return float((after.double() - before.double()).abs().max()) / largest if largest else 0.0


def _change(path: str, unit: SpikingUnit) -> PreparedLayer:
    """A staircase stays: comparing and adding are whole numbers already."""
    if unit.reset is None or not isinstance(unit.estimator, nn.Sigmoid):
        return PreparedLayer(path, ())
    table = SigmoidTable()
    return PreparedLayer(path, (place_estimator(unit, table),), table_error=table.sup_error)


LAVA = Preparation(
    target="lava",
    problems=problems,
    replace=replace,
    columns=(Column("sigmoid off by", "table_error", "{:.4f}"), Column("weight off by", "weight_error", "{:.2%}")),
    unused={
        "levels": "levels is for a staircase, and lava has a table of the sigmoid: leave levels out, got {}; "
        "a psu.Staircase that is in the model stays",
        "exponentials": "lava keeps T x T matrices as they are: leave exponentials out, got {}",
    },
)
