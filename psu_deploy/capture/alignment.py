"""Branches that look ahead by different numbers of steps are brought together: the input waits for the slowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psu_deploy.machine import Node, ops
from psu_deploy.machine.schedule import INPUT


def aligned(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The same nodes, all of them as late as the one that looks ahead furthest.

    Look-ahead stands at the input only, so it is the input that waits: no neuron runs early, and none runs on while the
    last answers are still due.
    """
    latest = max((node.layer.lookahead for node in nodes), default=0)
    waiting: dict[str, Node] = {}
    placed = []
    for node in nodes:
        missing = latest - node.layer.lookahead
        if INPUT in node.inputs and missing:
            line = f"{INPUT}.wait{missing}"
            waiting[line] = Node(line, ops.Wait(missing), (INPUT,))
            node = replace(node, inputs=tuple(line if name == INPUT else name for name in node.inputs))
        placed.append(node)
    return (*waiting.values(), *placed)
