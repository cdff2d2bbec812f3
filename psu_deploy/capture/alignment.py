"""Branches that look ahead by different numbers of steps are brought together by delay lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psu_deploy.machine import Node, ops
from psu_deploy.machine.graph import INPUT


def aligned(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The same nodes, with a `Wait` wherever an input of a layer would arrive before its others."""
    lags, placed = {INPUT: 0}, list[Node]()
    for node in nodes:
        latest = max(lags[name] for name in node.inputs)
        inputs = []
        for name in node.inputs:
            missing = latest - lags[name]
            waiting = f"{name}.wait{missing}" if missing else name
            if waiting not in lags:
                placed.append(Node(waiting, ops.Wait(missing), (name,)))
                lags[waiting] = latest
            inputs.append(waiting)
        placed.append(replace(node, inputs=tuple(inputs)))
        lags[node.name] = latest + node.layer.lookahead
    return tuple(placed)
