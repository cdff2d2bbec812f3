"""An exact run and its bounds, side by side: what is not certain in one step is in doubt wherever it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psu_deploy.machine import StateMachine
from psu_deploy.machine.ops import Neuron
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.operators import CausalOperator
from psu_deploy.machine.reference import Interpreter
from psu_deploy.machine.schedule import INPUT, Walked, walk
from psu_deploy.verify.portable.binary32 import Binary32, clipped


class Decided(NamedTuple):
    """What a neuron layer decides in one step, each (B, *features)."""

    margin: Tensor
    bound: Tensor


class Walk:
    """Runs a machine in float64, and carries the bounds of every runtime in binary32 beside it.

    Args:
        machine: the network.
        batch: number of samples.
    """

    def __init__(self, machine: StateMachine, batch: int) -> None:
        self._machine = machine
        self._binary32 = Binary32()
        self._interpreter = Interpreter(machine, torch.float64, torch.device("cpu"))
        start = machine.initial_state(batch, "float64")
        self._state = {name: torch.as_tensor(value) for name, value in start.items()}
        self._bounds = {name: self._binary32.pair(value) for name, value in self._state.items()}
        self._inputs = {node.name: node.inputs for node in machine.nodes}
        self._kept = {
            (node.name, role) for node in machine.nodes for role in machine.roles(node.name) if _keeps(node.layer, role)
        }

    def step(self, x: Tensor) -> dict[str, Decided]:
        """Decisions of one step; a layer whose first input has not arrived decides nothing."""
        exact = self._interpreter.walk(x, self._state)
        done = self._walk(x, exact)
        self._state = exact.state
        self._bounds = {name: self._clipped(name, value) for name, value in done.state.items()}
        decided = {}
        for name in self._machine.spiking:
            if name in exact.contexts:
                told, bound = exact.contexts[name].neuron, done.contexts[name].margin_error
                assert told is not None
                assert bound is not None
                decided[name] = Decided(told.margin, bound)
        return decided

    def _walk(self, x: Tensor, exact: Walked) -> Walked:
        def context(name: str) -> dict[str, Any]:
            inputs, own = self._inputs[name], exact.contexts.get(name)
            told = None if own is None else own.neuron
            return {
                "exact": [exact.values[source] for source in inputs],
                "value": exact.values[name],
                "told": told,
                "forced": None if told is None else told.spikes,
                "seen": None if told is None else told.estimate,
                "binary": self._machine.binary.issuperset(inputs),
            }

        pair, tensor = self._binary32.pair(x), self._binary32.tensor
        return walk(self._machine.schedule, pair, self._bounds, self._visit, context, tensor)

    def _visit(self, layer: Layer, inputs: list[Tensor], context: Context) -> Tensor:
        pair = layer.error(inputs, context, self._binary32)
        for role, value in context.new_state.items():
            if (context.name, role) not in self._kept:
                context.new_state[role] = self._binary32.rounded(value, 2)
        assert context.value is not None
        return clipped(pair, context.value)

    def _clipped(self, name: str, pair: Tensor) -> Tensor:
        layer, _, role = name.rpartition(".")
        return pair if (layer, role) in self._kept or not pair.ndim else clipped(pair, self._state[name])


def _keeps(layer: Layer, role: str) -> bool:
    """Whether the roundings of a state are counted where it ends."""
    roles: Mapping[str, CausalOperator | None] = getattr(layer, "operators", {})
    operator = roles.get(role, getattr(layer, "integrate" if isinstance(layer, Neuron) else "operator", None))
    return isinstance(operator, CausalOperator) and operator.keeps_products


__all__ = ["INPUT", "Decided", "Walk"]
