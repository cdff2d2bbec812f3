"""Our modules that work along time, neurons first of all -> layers of the state machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from psu_deploy.capture.conversion import Converter, array, nothing
from psu_deploy.errors import Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.ops import SpikingNeuron
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.nn.along_time import HandOver, Hold, Membrane, Static, TimeConv1d
from psu_deploy.nn.neurons import (
    LIF,
    PLIF,
    PSN,
    SPSN,
    MaskedPSN,
    SigmoidTable,
    SpikingUnit,
    Staircase,
)
from psu_deploy.nn.temporal import CausalOperator


def spiking_unit(module: SpikingUnit, features: Shape) -> SpikingNeuron:
    """Any neuron made of causal operators around an estimator."""
    shared = module.estimate is None or module.estimate is module.integrate
    return SpikingNeuron(
        integrate=operator(module.integrate),
        estimate=None if shared or module.estimate is None else operator(module.estimate),
        estimator=estimator(module.estimator),
        reset=None if module.reset is None else operator(module.reset),
        threshold=module.threshold,
        fire_on=module.fire_on,
    )


_COMPUTES = ("forward", "margin", "potentials", "threshold", "fire_on", "__call__", "_call_impl", "__getattribute__")
"""What a neuron fires by, beside its operators and its estimator, which are captured as they are."""


def check_computes_as_its_base(kind: type[nn.Module]) -> None:
    """Raise `Refusal` unless a neuron of another's making fires as the one of ours it was built on.

    An example cannot tell: what it computes otherwise may come later, or elsewhere.
    """
    base = next(base for base in kind.__mro__ if base.__module__.startswith(SpikingUnit.__module__.rpartition(".")[0]))
    own = [name for name in _COMPUTES if getattr(kind, name, None) is not getattr(base, name, None)]
    if own:
        raise Refusal(
            f"defines {', '.join(own)} by itself, so it may compute something else than {base.__name__} does",
            "say it with operators and an estimator, or pass converters={type: function}",
        )


def operator(module: CausalOperator) -> ops.CausalOperator:
    """A causal operator's recurrence as plain data."""
    recurrence = module.recurrence()
    numbers = {name: tensor.numpy() for name, tensor in recurrence.coefficients.items()}
    match recurrence.kind:
        case "identity":
            return ops.Identity()
        case "leak":
            return ops.Leak(float(numbers["gain"]), float(numbers["decay"]))
        case "strict_leak":
            return ops.StrictLeak(float(numbers["gain"]), float(numbers["decay"]))
        case "exponentials":
            return ops.Exponentials(numbers["gains"], numbers["decays"], float(numbers["bias"]))
        case "partial_sums":
            return ops.PartialSums(numbers["matrix"], numbers["bias"])
        case "window":
            return ops.Window(numbers["columns"], numbers["bias"], time_invariant=recurrence.horizon is None)


def estimator(module: nn.Module) -> ops.Estimator:
    """The estimator as plain data; an exact type, because a subclass may compute something else."""
    if type(module) not in ESTIMATORS:
        known = ", ".join(kind.__name__ for kind in ESTIMATORS)
        raise Refusal(f"estimator {type(module).__name__} has no serial form", f"use one of {known}")
    return ESTIMATORS[type(module)](module)


ESTIMATORS: dict[type[nn.Module], Callable[[Any], ops.Estimator]] = {
    nn.Sigmoid: lambda _: ops.Sigmoid(),
    nn.Identity: lambda _: ops.RawCurrent(),
    Staircase: lambda module: ops.Staircase(module.thresholds.numpy(), module.height, module.offset),
    SigmoidTable: lambda _: ops.SigmoidTable(),
}
"""Type -> what it is in a machine."""


def masked_psn(module: MaskedPSN, features: Shape) -> SpikingNeuron:
    """MaskedPSN, once its masking is complete."""
    if module.lambda_ < 1.0:
        raise Refusal(
            f"lambda_ = {module.lambda_:g} < 1: rows still look ahead, so there is no serial form",
            "finish the masking: train on with neuron.lambda_ = 1.0",
        )
    return spiking_unit(module, features)


def spsn(module: SPSN, features: Shape) -> ops.BernoulliNeuron:
    """SPSN: what is drawn in eval mode."""
    return ops.BernoulliNeuron(operator(module.integrate), module.seed)


def lif(module: LIF, features: Shape) -> ops.LIFNeuron:
    """LIF, and PLIF with the time constant it has learned."""
    tau = module.tau
    if isinstance(module, PLIF):
        tau = float(1.0 / torch.sigmoid(module.w.detach().double()))
    return ops.LIFNeuron(tau, module.decay_input, module.threshold, module.reset_kind, module.fire_on)


def time_conv(module: TimeConv1d, features: Shape) -> ops.TimeConv:
    """TimeConv1d: the window, and how much of it lies ahead."""
    conv = module.conv
    bias = None if conv.bias is None else array(conv.bias)
    return ops.TimeConv(array(conv.weight), bias, conv.groups, module.lookahead)


def membrane(module: Membrane, features: Shape) -> ops.Filter:
    """Membrane: its leak, and nothing that fires."""
    return ops.Filter(operator(module.leak))


def hand_over(module: HandOver, features: Shape) -> ops.HandOver:
    """HandOver, of a current and a membrane."""
    return ops.HandOver(module.decay, module.theta)


def hold(module: Hold, features: Shape) -> ops.Hold:
    """Hold."""
    return ops.Hold()


def refuse_psn(module: PSN, features: Shape) -> None:
    """PSN is not causal."""
    raise Refusal(
        "not causal: step t needs inputs of later steps, so there is no serial form",
        "train with IPSU, RPSU or SlidingPSN",
    )


CONVERTERS: dict[type[nn.Module], Converter] = {
    MaskedPSN: masked_psn,
    PSN: refuse_psn,
    SPSN: spsn,
    LIF: lif,
    PLIF: lif,
    TimeConv1d: time_conv,
    Membrane: membrane,
    HandOver: hand_over,
    Static: nothing,
    Hold: hold,
}
"""Type -> converter; any other `SpikingUnit` is what its operators and its estimator say: `spiking_unit`."""
