"""Smaller cases: fewer steps, samples, layers and features, fewer options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from psu_deploy.errors import PsuDeployError
from psu_deploy.fuzz.case import Case
from psu_deploy.fuzz.oracle import fed
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.ops.fields import Shape
from psu_deploy.machine.passes import RemoveDeadLayers
from psu_deploy.machine.schedule import INPUT

_MISFITS = (PsuDeployError, ValueError, IndexError, ZeroDivisionError, AttributeError)
"""What a layer says that does not fit any more: the case is none."""


def fewer_layers(case: Case) -> Iterator[Case]:
    """The network cut off behind a layer, in front of one, or without one."""
    machine = case.machine
    for index, node in enumerate(machine.nodes[:-1]):
        yield from _with(
            case, lambda i=index, n=node: StateMachine(machine.nodes[: i + 1], machine.input_shape, n.name)
        )
    for index in reversed(range(len(machine.nodes) - 1)):
        yield from _cut_in_front(case, index)
    for index, node in enumerate(machine.nodes):
        for source in dict.fromkeys(node.inputs):
            yield from _with(case, lambda i=index, s=source: _without(machine, i, s))
        if len(node.inputs) > 2:
            yield from _with(case, lambda i=index: _narrower(machine, i))


def fewer_steps(case: Case) -> Iterator[Case]:
    """Half of them, or one less, from the back or from the front."""
    steps = len(case.x)
    for kept in dict.fromkeys((1, steps // 2, steps - 1)):
        if 0 < kept < steps:
            yield case.with_input(case.x[:kept], case.state)
            yield case.with_input(case.x[-kept:], case.state)


def fewer_samples(case: Case) -> Iterator[Case]:
    """Each alone."""
    batch = case.x.shape[1]
    for b in range(batch if batch > 1 else 0):
        yield case.with_input(case.x[:, b : b + 1], _rows(case.state, b))


def plainer(case: Case) -> Iterator[Case]:
    """From the initial state, in one piece, with one option less."""
    if case.state is not None:
        yield replace(case, state=None)
    if case.split:
        yield replace(case, split=0)
    for name in case.options.export:
        yield replace(case, options=case.options._replace(export=_less(case.options.export, name)))
    for name in case.options.load:
        yield replace(case, options=case.options._replace(load=_less(case.options.load, name)))


def fewer_features(case: Case) -> Iterator[Case]:
    """One entry of an axis of the input, or half of them; fewer rows of weights."""
    for axis, size in enumerate(case.machine.input_shape):
        for kept in sorted({1, size // 2} - {0, size}):
            for start in range(0, size - kept + 1, kept):
                yield from _narrow_input(case, axis, slice(start, start + kept))
    for node in case.machine.nodes:
        rows = len(node.layer.weight) if isinstance(node.layer, ops.Linear) else 0
        for kept in sorted({1, rows // 2} - {0, rows} if rows else ()):
            yield from _with(case, lambda n=node, k=kept: _fitted(case.machine, n.name, slice(0, k)))


def _with(case: Case, make: Any) -> Iterator[Case]:
    """The case with another machine on the same input, if there is such a machine."""
    with suppress(*_MISFITS):
        machine = RemoveDeadLayers()(make())
        if case.state is None or machine.state_spec.keys() <= case.state.keys():
            state = None if case.state is None else {name: case.state[name] for name in machine.state_spec}
            smaller = replace(case, machine=machine)
            yield smaller.with_input(case.x, state)


def _cut_in_front(case: Case, index: int) -> Iterator[Case]:
    """What a layer gives becomes the input."""
    machine, node = case.machine, case.machine.nodes[index]
    with suppress(*_MISFITS):
        if machine.latency or case.state is not None:
            return
        x = np.asarray(StateMachine(machine.nodes[: index + 1], machine.input_shape, node.name).run(fed(case)))
        rest = [replace_input(n, node.name, INPUT) for n in machine.nodes[index + 1 :]]
        cut = RemoveDeadLayers()(StateMachine(tuple(rest), machine.shapes[node.name], machine.output))
        yield replace(case, machine=cut).with_input(x, None)


def replace_input(node: Node, old: str, new: str) -> Node:
    """A node that reads something else."""
    return replace(node, inputs=tuple(new if name == old else name for name in node.inputs))


def _without(machine: StateMachine, index: int, source: str) -> StateMachine:
    """Whoever reads a layer reads one of its inputs instead."""
    gone = machine.nodes[index]
    nodes = tuple(replace_input(node, gone.name, source) for node in machine.nodes if node is not gone)
    output = source if machine.output == gone.name else machine.output
    return StateMachine(nodes, machine.input_shape, output)


def _narrower(machine: StateMachine, index: int) -> StateMachine:
    """A layer of several inputs with two of them."""
    node = machine.nodes[index]
    layer = ops.Outputs(node.layer.names[:2]) if isinstance(node.layer, ops.Outputs) else node.layer
    less = Node(node.name, layer, node.inputs[:2])
    return StateMachine(
        (*machine.nodes[:index], less, *machine.nodes[index + 1 :]), machine.input_shape, machine.output
    )


def _narrow_input(case: Case, axis: int, kept: slice) -> Iterator[Case]:
    shape = list(case.machine.input_shape)
    shape[axis] = kept.stop - kept.start
    x = np.ascontiguousarray(np.moveaxis(np.moveaxis(case.x, 2 + axis, 0)[kept], 0, 2 + axis))
    with suppress(*_MISFITS):
        if case.state is None:
            machine = _fitted(case.machine, None, kept, tuple(shape))
            yield replace(case, machine=machine).with_input(x, None)


def _fitted(machine: StateMachine, name: str | None, kept: slice, shape: Shape | None = None) -> StateMachine:
    """With fewer rows of one Linear, or a narrower input; each Linear behind it loses the columns that are gone.

    Raises:
        InputError: if some layer does not fit any more.
    """
    nodes: list[Node] = []
    shapes = {INPUT: shape or machine.input_shape}
    for node in machine.nodes:
        layer = node.layer
        seen = [shapes[source] for source in node.inputs]
        if isinstance(layer, ops.Linear):
            columns = seen[0][-1]
            lost = columns < layer.weight.shape[1]
            start = min(kept.start, layer.weight.shape[1] - columns) if lost else 0
            layer = replace(layer, weight=layer.weight[:, start : start + columns])
            if node.name == name:
                bias = None if layer.bias is None else layer.bias[kept]
                layer = replace(layer, weight=layer.weight[kept], bias=bias)
        nodes.append(Node(node.name, layer, node.inputs))
        shapes[node.name] = layer.output_shape(*seen)
    return StateMachine(tuple(nodes), shapes[INPUT], machine.output)


def _rows(state: dict[str, Any] | None, b: int) -> dict[str, Any] | None:
    if state is None:
        return None
    return {name: value[b : b + 1] if np.ndim(value) else value for name, value in state.items()}


def _less(options: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != name}
