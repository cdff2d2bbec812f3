"""Our neuron modules -> the SpikingNeuron of the state machine."""

from __future__ import annotations

from torch import nn

from psu_deploy.capture.layers import ConversionError, Converter
from psu_deploy.machine import operators
from psu_deploy.machine.fields import Shape
from psu_deploy.machine.ops import SpikingNeuron
from psu_deploy.neurons import IPSU, PPSU, PSN, PSU, RPSU, SlidingPSN, SpikingUnit
from psu_deploy.temporal import CausalOperator


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


def operator(module: CausalOperator) -> operators.Operator:
    """A causal operator's recurrence as plain data."""
    recurrence = module.recurrence()
    numbers = {name: tensor.numpy() for name, tensor in recurrence.coefficients.items()}
    match recurrence.kind:
        case "identity":
            return operators.Identity()
        case "leak":
            return operators.Leak(float(numbers["gain"]), float(numbers["decay"]))
        case "strict_leak":
            return operators.StrictLeak(float(numbers["gain"]), float(numbers["decay"]))
        case "exponentials":
            return operators.Exponentials(numbers["gains"], numbers["decays"])
        case "partial_sums":
            return operators.PartialSums(numbers["matrix"], numbers["bias"])
        case "window":
            return operators.Window(numbers["columns"], numbers["bias"], time_invariant=recurrence.horizon is None)


def estimator(module: nn.Module) -> operators.Estimator:
    """nn.Sigmoid or nn.Identity as plain data."""
    if type(module) is nn.Sigmoid:
        return operators.Sigmoid()
    if type(module) is nn.Identity:
        return operators.RawCurrent()
    raise ConversionError(f"estimator {type(module).__name__} has no serial form", "use torch.nn.Sigmoid")


def refuse_psn(module: PSN, features: Shape) -> None:
    """PSN is not causal."""
    raise ConversionError(
        "not causal: step t needs inputs of later steps, so there is no serial form",
        "train with IPSU, RPSU or SlidingPSN",
    )


NEURONS: dict[type[nn.Module], Converter] = {
    PSU: spiking_unit,
    IPSU: spiking_unit,
    RPSU: spiking_unit,
    PPSU: spiking_unit,
    SlidingPSN: spiking_unit,
    PSN: refuse_psn,
}
"""Type -> converter."""
