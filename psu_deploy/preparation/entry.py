"""psu.prepare: look at everything, then replace everything, or nothing."""

from __future__ import annotations

from torch import nn

from psu_deploy.errors import InputError, UnsupportedModelError
from psu_deploy.preparation import nir
from psu_deploy.preparation.neurons import neurons_of
from psu_deploy.preparation.record import LEVELS, Approximate, Arguments
from psu_deploy.preparation.report import PreparationReport, PreparedLayer
from psu_deploy.preparation.targets import TARGETS, preparation_for


def prepare(
    model: nn.Module, target: str = "nir", *, levels: int = LEVELS, exponentials: int | None = None
) -> PreparationReport:
    """Replace, in place, what a target cannot express by what is closest to it; then fine-tune and export.

    "nir": in every neuron of the PSU family the sigmoid becomes a `Staircase`; every operator that is defined for T
    steps only becomes the sum of exponentials closest to its matrix, and its bias per step the mean of it. Identity,
    leaks and sliding windows stay, as do LIF and PLIF.

    "lava": in every neuron of the PSU family the sigmoid becomes a `SigmoidTable`; the weight of every Linear, Conv1d
    and Conv2d of torch is rounded to 8 bits per output channel in forward, while what is learned keeps all its bits
    (`psu_deploy.nn.quantisation.Int8Weight`). Neurons keep their operators, T x T matrices too, and a `Staircase`
    stays.

    Device, dtype, training mode and `requires_grad` are kept. All or nothing: a model that cannot be prepared is left
    as it was. What was prepared already stays. For "nir", an optimiser made before holds parameters that are no longer
    in the model: make a new one. For "lava", a state_dict calls a weight `parametrizations.weight.original`.

    Args:
        model: any module that holds neurons of this package, or is one.
        target: "nir" or "lava".
        levels: for "nir": steps of the staircase, 1..255; off by about `1/(2(levels + 1))`.
        exponentials: for "nir": terms of every sum that replaces a matrix; None: the model must hold no matrix.

    Returns:
        What was replaced, and how far it is from what it stands for.

    Raises:
        InputError: if the target or a number is unknown or of no use to the target, there is no neuron in the model, or
            a number in it that is to be replaced is not finite.
        UnsupportedModelError: listing every layer that cannot be prepared, and why.
        MissingExtraError: if a matrix is to be fitted and the `nir` extra (scipy) is not installed.

    >>> from psu_deploy.nn.containers import SpikingSequential
    >>> from psu_deploy.nn.neurons import PSU
    >>> model = SpikingSequential(nn.Linear(8, 32), PSU())
    >>> report = prepare(model, target="nir", levels=7)
    >>> [(layer.path, layer.staircase_error < 1 / 15) for layer in report.layers]
    [('1', True)]
    >>> model[1].estimator
    Staircase(levels=7)
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"prepare changes a torch module in place, got {type(model).__name__}; capture comes after it")
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise InputError("the model is on the device 'meta' and has no numbers; load its weights first")
    layers = _replace(model, target, levels, exponentials, nir.closest)
    return PreparationReport(target, layers, TARGETS[target].columns)


def prepare_structure(model: nn.Module, target: str, levels: int, exponentials: int | None) -> None:
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
    _replace(model, target, levels, exponentials, nir.unfitted)


def _replace(
    model: nn.Module, target: str, levels: int, exponentials: int | None, approximate: Approximate
) -> tuple[PreparedLayer, ...]:
    preparation = preparation_for(target, levels, exponentials)
    given = Arguments(levels, exponentials, approximate)
    neurons = neurons_of(model)
    if not neurons:
        raise InputError(
            f"there is no neuron of psu_deploy in this {type(model).__name__}: nothing to prepare for {target}"
        )
    problems = preparation.problems(model, neurons, given)
    if problems:
        raise UnsupportedModelError(problems, f"prepare the model for {target}")
    return tuple(layer for layer in preparation.replace(model, given) if layer.replaced)
