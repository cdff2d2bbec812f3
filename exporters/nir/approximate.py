"""Sigmoids as staircases without fine-tuning: how many levels, and what it costs, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from psu_deploy.errors import InputError
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine.inputs import check_sequence
from psu_deploy.numerics.staircase import sigmoid_steps

LEVELS = (3, 7, 15, 31, 63, 127)
"""Tried in this order."""


@dataclass(frozen=True)
class Approximation:
    """What was done to a machine.

    Attributes:
        machine: with staircases for sigmoids.
        levels: of every staircase; None = there was no sigmoid, and nothing was done.
        notes: what was done and what it cost, in words.
    """

    machine: StateMachine
    levels: int | None = None
    notes: tuple[str, ...] = ()


def approximated(machine: StateMachine, calibration: Any, max_flip_rate: float) -> Approximation:
    """The machine with staircases for sigmoids, of the fewest levels that flip no more spikes than asked for.

    Raises:
        InputError: if there is a sigmoid but no calibration data, or they do not fit.
    """
    if not any(map(_looks_through_sigmoid, machine.nodes)):
        return Approximation(machine)
    if not 0 <= max_flip_rate <= 1:
        raise InputError(f"max_flip_rate is a share of spikes, between 0 and 1, got {max_flip_rate}")
    if calibration is None:
        needs = "needs calibration data, input (T, B, *features) to measure the flips on"
        raise InputError(f"allow_approximation {needs}", shell=f"--allow-approximation {needs}: --calibrate x.npy")
    check_sequence(calibration, machine.input_shape, machine.max_steps, ("float32", "float64"))
    expected = machine.trace(calibration).spikes
    rates: dict[int, float] = {}
    for levels in LEVELS:
        rates[levels] = _flip_rate(expected, with_staircases(machine, levels).trace(calibration).spikes)
        if rates[levels] <= max_flip_rate:
            break
    best = min(rates, key=lambda levels: (rates[levels] > max_flip_rate, rates[levels], levels))
    notes = _account(best, rates[best], max_flip_rate, calibration.shape)
    return Approximation(with_staircases(machine, best), best, notes)


def with_staircases(machine: StateMachine, levels: int) -> StateMachine:
    """The same machine, every sigmoid a staircase."""
    nodes = [_replaced(node, levels) if _looks_through_sigmoid(node) else node for node in machine.nodes]
    return StateMachine(tuple(nodes), machine.input_shape, machine.output)


def _replaced(node: Node, levels: int) -> Node:
    assert isinstance(node.layer, ops.SpikingNeuron)
    return replace(node, layer=replace(node.layer, estimator=ops.Staircase(*sigmoid_steps(levels))))


def _looks_through_sigmoid(node: Node) -> bool:
    """By exact type: what a subclass computes is not known to be a sigmoid."""
    layer = node.layer
    if type(layer) is not ops.SpikingNeuron or layer.reset is None:
        return False
    return type(layer.estimator) is ops.Sigmoid


def _flip_rate(expected: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    flips = sum(int(np.asarray(expected[name] != found[name]).sum()) for name in expected)
    return flips / sum(int(np.prod(expected[name].shape)) for name in expected)


def _account(levels: int, rate: float, limit: float, shape: tuple[int, ...]) -> tuple[str, ...]:
    error = sigmoid_steps(levels).sup_error
    notes = [
        f"every sigmoid became a staircase of {levels} levels, sup-norm error {error:.4f}",
        f"on calibration data of {shape[0]} steps and {shape[1]} samples {rate:.3%} of the spikes flipped",
    ]
    if rate > limit:
        notes.append(f"that is above the {limit:.3%} asked for: no number of levels stayed below it, this is the best")
    return tuple(notes)
