"""Which thresholds a network has, which of them can move alone, and the network with them moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from psu_deploy.capture import neuron_at
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.nn.neurons import LIF, Neuron, SpikingUnit


@dataclass(frozen=True)
class Threshold:
    """One number that layers fire by.

    Attributes:
        layers: of the machine, all that share it: a module that is used twice stands in two.
        reason: why it cannot move, whatever the data; "" = it can.
    """

    layers: tuple[str, ...]
    reason: str = ""


def _leaky(layer: Any) -> str:
    return "its soft reset subtracts V_th, so another one would change V" if layer.reset == "soft" else ""


_STAYS: dict[type[ops.Neuron], Callable[[Any], str]] = {
    ops.SpikingNeuron: lambda _: "",  # the reset has a gain of its own
    ops.LIFNeuron: _leaky,
    ops.BernoulliNeuron: lambda _: "it fires at random and has no threshold",
}
"""Kind -> what a threshold is besides, in words; "" = it decides and does nothing else."""


def thresholds_of(model: nn.Module | StateMachine, machine: StateMachine) -> list[Threshold]:
    """Every threshold of a network, in network order."""
    layers = {node.name: node.layer for node in machine.nodes}
    shared: dict[Any, list[str]] = {}
    for name in machine.spiking:
        key = id(neuron_at(model, name)) if isinstance(model, nn.Module) else name
        shared.setdefault(key, []).append(name)
    return [Threshold(tuple(names), _reason(model, names[0], layers[names[0]])) for names in shared.values()]


def _reason(model: nn.Module | StateMachine, name: str, layer: Any) -> str:
    known = _STAYS.get(type(layer))
    reason = f"nothing is known about a threshold of {type(layer).__name__}" if known is None else known(layer)
    if reason or isinstance(model, StateMachine):
        return reason
    neuron = neuron_at(model, name)
    if isinstance(neuron, SpikingUnit | LIF):
        return ""
    return f"{type(neuron).__name__} is no neuron of psu_deploy: centre the machine captured from it"


def machine_with(machine: StateMachine, moved: Mapping[str, float]) -> StateMachine:
    """The machine, some layers with another threshold."""
    nodes = [_with_threshold(node, moved[node.name]) if node.name in moved else node for node in machine.nodes]
    return StateMachine(tuple(nodes), machine.input_shape, machine.output)


def _with_threshold(node: Node, threshold: float) -> Node:
    layer: Any = node.layer
    return replace(node, layer=replace(layer, threshold=threshold))


def module_with(model: nn.Module, moved: Mapping[str, float]) -> nn.Module:
    """A copy of a module, the neurons that some layers were captured from with another threshold."""
    copy = deepcopy(model)
    for name, threshold in moved.items():
        _move(neuron_at(copy, name), threshold)
    return copy


def _move(neuron: nn.Module, threshold: float) -> None:
    if isinstance(neuron, SpikingUnit):
        neuron.fire_at(threshold)
    else:
        assert isinstance(neuron, Neuron)
        neuron.threshold = threshold


def spread(moved: Mapping[Threshold, float]) -> dict[str, float]:
    """Layer -> its threshold, of all that share one."""
    return {name: value for threshold, value in moved.items() for name in threshold.layers}
