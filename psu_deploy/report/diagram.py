"""The network as a picture: one row per layer, a line per value, side by side where branches run side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from psu_deploy.machine import Node, StateMachine
from psu_deploy.machine.ops import BernoulliNeuron, LIFNeuron, Neuron, SpikingNeuron
from psu_deploy.machine.ops.layer import Layer
from psu_deploy.machine.schedule import INPUT
from psu_deploy.text import visible

ROW, LANE, LEFT, TOP = 40, 16, 12, 18
WIDTH = 360

_MOST = 120
"""Rows; a network with more is shown by its beginning."""


class Wire(NamedTuple):
    """From one layer to another, as the path of an SVG."""

    path: str
    spikes: bool


class Row(NamedTuple):
    """One layer."""

    name: str
    kind: str
    shape: str
    neuron: bool
    x: int
    y: int


@dataclass(frozen=True)
class Diagram:
    """Everything the template draws.

    Attributes:
        rows: the input first.
        wires: between them.
        text: where the names begin, in pixels.
        width: of the picture.
        height: of the picture.
        left_out: layers that are not shown.
    """

    rows: tuple[Row, ...]
    wires: tuple[Wire, ...]
    text: int
    width: int
    height: int
    left_out: int


def diagram(machine: StateMachine) -> Diagram:
    """Place every layer: its own row, in a lane that is free while its value is needed."""
    nodes = machine.nodes[:_MOST]
    last = {INPUT: -1} | {node.name: index for index, node in enumerate(nodes)}
    last |= {name: index for index, node in enumerate(nodes) for name in node.inputs}
    lanes: list[str | None] = [INPUT]
    at, rows, wires = {INPUT: (0, 0)}, [_row(INPUT, "input", machine, 0, 0)], []
    for index, node in enumerate(nodes):
        ending = {name for name in node.inputs if last[name] <= index}
        lane = _lane(lanes, node, ending)
        at[node.name] = (lane, index + 1)
        wires += [_wire(at[name], at[node.name], name in machine.binary) for name in dict.fromkeys(node.inputs)]
        lanes[:] = [None if name in ending else name for name in lanes]
        lanes[lane] = node.name
        rows.append(_row(node.name, described(node.layer), machine, lane, index + 1))
    used = 1 + max(lane for lane, _ in at.values())
    text = LEFT + used * LANE
    return Diagram(
        tuple(rows), tuple(wires), text, WIDTH + used * LANE, TOP + len(rows) * ROW, len(machine.nodes) - len(nodes)
    )


def described(layer: Layer) -> str:
    """What a layer is, in a few words."""
    kind = type(layer).__name__
    if isinstance(layer, SpikingNeuron):
        parts = [f"{role} {type(operator).__name__}" for role, operator in layer.operators.items()]
        return f"neuron: {', '.join(parts)}"
    if isinstance(layer, LIFNeuron):
        leak = "no leak" if layer.tau is None else f"tau {layer.tau:g}"
        return f"neuron: LIF, {leak}, {layer.reset} reset"
    if isinstance(layer, BernoulliNeuron):
        return "neuron: fires at random"
    return f"neuron: {kind}" if isinstance(layer, Neuron) else kind


def shape_of(features: tuple[int, ...]) -> str:
    """Features as people write them."""
    return " × ".join(map(str, features)) or "1"  # noqa: RUF001  the sign of a product


def _lane(lanes: list[str | None], node: Node, ending: set[str]) -> int:
    """The lane of the first input that nobody else needs, or a free one."""
    for lane, name in enumerate(lanes):
        if name is None or name in ending:
            return lane
    lanes.append(None)
    return len(lanes) - 1


def _row(name: str, kind: str, machine: StateMachine, lane: int, index: int) -> Row:
    x, y = _point(lane, index)
    return Row(visible(name, 34), kind, shape_of(machine.shapes[name]), name in machine.spiking, x, y)


def _point(lane: int, index: int) -> tuple[int, int]:
    return LEFT + lane * LANE, TOP + index * ROW


def _wire(start: tuple[int, int], end: tuple[int, int], spikes: bool) -> Wire:
    """Down its own lane, and over to the other in the last row."""
    (x, y), (to_x, to_y) = _point(*start), _point(*end)
    bend = to_y - ROW
    curve = f"C{x} {bend + ROW // 2} {to_x} {bend + ROW // 2} {to_x} {to_y}" if x != to_x else f"V{to_y}"
    return Wire(f"M{x} {y}V{bend}{curve}", spikes)
