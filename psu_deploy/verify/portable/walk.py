"""An exact run and its bounds, side by side: what is not certain in one step is in doubt wherever it goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psu_deploy.machine import StateMachine
from psu_deploy.machine.ops import Neuron
from psu_deploy.machine.ops.context import Context
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.ops.operators import CausalOperator
from psu_deploy.machine.passes.fold_channel_affine import foldable
from psu_deploy.machine.reference import Interpreter
from psu_deploy.machine.schedule import INPUT, Walked, layer_and_role, walk
from psu_deploy.verify.portable.binary32 import Binary32, clipped

_ROUNDED_STATE = 3
"""Products of a state: `(y + gain*x)*decay` rounds a current five times, two of them its constants."""


class Place(NamedTuple):
    """One decision of a sample."""

    t: int
    layer: str
    neuron: tuple[int, ...]


Assumed = Mapping[Place, bool]
"""Decisions of one sample that are taken to be so: whether there is a spike."""


class Decided(NamedTuple):
    """What a neuron layer decides, each (T, B, *features); from the step at which its first input arrives."""

    margin: Tensor
    bound: Tensor


def decisions(machine: StateMachine, x: Tensor, assumed: Sequence[Assumed]) -> dict[str, Decided]:
    """Margins in exact arithmetic, and what any runtime in binary32 may be off by.

    Args:
        machine: the network.
        x: (T, B, *input_shape), float64.
        assumed: for every sample.
    """
    run, rows = _Walk(machine, x.shape[1], assumed), []
    with torch.no_grad():
        rows = [run.step(t, row) for t, row in enumerate(x)]
    found = {}
    for name in machine.spiking:
        parts = list(zip(*(row[name] for row in rows if name in row), strict=True))
        found[name] = Decided(*(torch.stack(part) for part in parts)) if parts else Decided(*[x.new_zeros(0)] * 2)
    return found


class _Walk:
    """Runs a machine in float64, and carries the bounds of every runtime in binary32 beside it."""

    def __init__(self, machine: StateMachine, batch: int, assumed: Sequence[Assumed]) -> None:
        self._machine = machine
        self._binary32 = Binary32()
        self._interpreter = Interpreter(machine, torch.float64, torch.device("cpu"))
        start = machine.initial_state(batch, "float64")
        self._state = {name: torch.as_tensor(value) for name, value in start.items()}
        self._bounds = {name: self._binary32.pair(value) for name, value in self._state.items()}
        self._inputs = {node.name: node.inputs for node in machine.nodes}
        self._kept = frozenset(_kept(machine))
        self._folded = {affine.name: (producer, folded) for producer, affine, folded in foldable(machine)}
        self._pairs: dict[str, Tensor] = {}
        self._assumed: dict[int, list[tuple[int, Place, bool]]] = {}
        for sample, places in enumerate(assumed):
            for place, spike in places.items():
                self._assumed.setdefault(place.t, []).append((sample, place, spike))

    def step(self, t: int, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Margins and bounds of one step."""
        assumed = self._assumed.get(t, [])
        self._binary32.assumed = {place.layer: self._mask(len(x), assumed, place.layer) for _, place, _ in assumed}

        def visit(layer: Layer, inputs: list[Tensor], context: Context) -> Tensor:
            result = layer.step(inputs, context)
            places = [one for one in assumed if one[1].layer == context.name]
            if places:
                context.forced, context.new_state = result.clone(), {}
                for sample, place, spike in places:
                    context.forced[(sample, *place.neuron)] = float(spike)
                result = layer.step(inputs, context)
            return result

        exact = self._interpreter.walk(x, self._state, visit=visit)
        done = self._bound(x, exact)
        self._state = exact.state
        self._bounds = {name: self._clipped(name, value) for name, value in done.state.items()}
        return {name: _decided(name, exact, done) for name in self._machine.spiking if name in exact.contexts}

    def _mask(self, batch: int, assumed: Iterable[tuple[int, Place, bool]], layer: str) -> Tensor:
        mask = torch.zeros(batch, *self._machine.shapes[layer], dtype=torch.bool)
        for sample, place, _ in assumed:
            if place.layer == layer:
                mask[(sample, *place.neuron)] = True
        return mask

    def _bound(self, x: Tensor, exact: Walked) -> Walked:
        def context(name: str) -> dict[str, Any]:
            inputs, own = self._inputs[name], exact.contexts.get(name)
            told = None if own is None else own.neuron
            return {
                "exact": [exact.values[source] for source in inputs],
                "value": exact.values[name],
                "told": told,
                "forced": None if told is None else exact.values[name],
                "seen": None if told is None else told.estimate,
                "binary": self._machine.binary.issuperset(inputs),
            }

        pair, tensor = self._binary32.pair(x), self._binary32.tensor
        self._pairs = {INPUT: pair}
        return walk(self._machine.schedule, pair, self._bounds, self._visit, context, tensor)

    def _visit(self, layer: Layer, inputs: list[Tensor], context: Context) -> Tensor:
        pair = layer.error(inputs, context, self._binary32)
        for role, value in context.new_state.items():
            if (context.name, role) not in self._kept:
                context.new_state[role] = self._binary32.rounded(value, _ROUNDED_STATE)
        assert context.value is not None
        if context.name in self._folded:
            pair = pair.maximum(self._as_one(context))
        self._pairs[context.name] = pair if isinstance(layer, Neuron) else clipped(pair, context.value)
        return self._pairs[context.name]

    def _as_one(self, context: Context) -> Tensor:
        """The bound of a runtime that makes one layer of two, with weights that it multiplies and rounds itself."""
        producer, folded = self._folded[context.name]
        binary = self._machine.binary.issuperset(producer.inputs)
        pair = folded.error([self._pairs[producer.inputs[0]]], replace(context, binary=binary), self._binary32)
        return self._binary32.rounded(pair, 0)

    def _clipped(self, name: str, pair: Tensor) -> Tensor:
        return pair if layer_and_role(name) in self._kept or not pair.ndim else clipped(pair, self._state[name])


def _decided(name: str, exact: Walked, done: Walked) -> tuple[Tensor, Tensor]:
    told, bound = exact.contexts[name].neuron, done.contexts[name].margin_error
    assert told is not None, f"layer {name!r} says nothing about what it did"
    assert bound is not None, f"layer {name!r} says nothing about the error of its margin"
    return told.margin, bound


def _kept(machine: StateMachine) -> Iterable[tuple[str, str]]:
    """Layers and roles of the states that are sums of products: their roundings are counted where the sums end."""
    for node in machine.nodes:
        for role in machine.roles(node.name):
            operators = getattr(node.layer, "operators", {})
            other = "integrate" if isinstance(node.layer, Neuron) else "operator"
            operator = operators.get(role, getattr(node.layer, other, None))
            if isinstance(operator, CausalOperator) and operator.keeps_products:
                yield node.name, role
