"""SpikingJelly modules -> layers of the state machine.

SpikingJelly is never imported here: its classes are known by name, and are there if somebody passes one in.
Multi-step modules (`step_mode="m"`) work on (T, B, ...); single-step ones on one step of a loop, layers also in a
container that folds T into B. Source: spikingjelly 2.0.0, activation_based.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations as type_of

from psu_deploy.capture.conversion import Converter
from psu_deploy.capture.spikingjelly.layers import ANY_LAYOUT, LAYERS, as_torch
from psu_deploy.capture.spikingjelly.names import SET_MULTI_STEP, has_memory, is_neuron, name_of
from psu_deploy.capture.spikingjelly.neurons import NEURONS, never_fires, remember_potentials
from psu_deploy.capture.spikingjelly.refused import REFUSED, refusal
from psu_deploy.capture.spikingjelly.state import Memories, afresh, at_rest, rest
from psu_deploy.capture.values import EVERY, Value
from psu_deploy.errors import Refusal

__all__ = [
    "Memories",
    "afresh",
    "at_rest",
    "check_step_mode",
    "converter",
    "fixed_steps",
    "is_layer",
    "is_neuron",
    "never_fires",
    "refusal",
    "remember_potentials",
    "rest",
    "sees_one_step",
]


def is_layer(module: nn.Module) -> bool:
    """Whether this is a neuron or a layer of SpikingJelly; its containers and blocks are looked into."""
    known = name_of(type_of(module)) in REFUSED or converter(type_of(module)) is not None
    return known or is_neuron(module) or has_memory(module)


def converter(kind: type[nn.Module]) -> Converter | None:
    """The converter of a SpikingJelly type; None for any other."""
    name = name_of(kind)
    return (NEURONS | LAYERS).get(name) or (as_torch(kind) if name.startswith("layer.") else None)


def fixed_steps(module: Any) -> int | None:
    """The one number of steps that a module runs on, if it has numbers of its own for every step; else None."""
    name = name_of(type_of(module))
    if name in ("neuron.PSN", "neuron.MaskedPSN") or name.startswith(("layer.BatchNormThroughTime", "neuron.Noisy")):
        return int(module.T)
    return len(module.scale) if name.startswith("layer.TemporalEffectiveBatchNorm") else None


def sees_one_step(module: nn.Module) -> bool:
    """Whether a neuron of SpikingJelly is called once at every step, in a loop over time."""
    return is_neuron(module) and getattr(module, "step_mode", "m") != "m"


def check_step_mode(module: Any, value: Value) -> None:
    """Raise `Refusal` if a SpikingJelly module is applied to something its step mode is not made for."""
    mode = getattr(module, "step_mode", None)
    if not is_layer(module) or mode is None or name_of(type_of(module)) in ANY_LAYOUT:
        return
    if sees_one_step(module) and value.when == EVERY:
        raise Refusal('step_mode="s" sees one step at a time', f"call {SET_MULTI_STEP}")
    if not (value.is_sequence if mode == "m" else value.is_batch):
        raise Refusal(f'step_mode="{mode}" is applied to {value.layout}', f"call {SET_MULTI_STEP}")
