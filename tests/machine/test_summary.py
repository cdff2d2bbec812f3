"""The table for people: totals that can be checked by hand."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.nn.containers import SpikingSequential
from psu_deploy.nn.neurons import IPSU, PSU, RPSU, SlidingPSN


def rows(machine):
    """Layer -> (kind, parameters, state bytes)."""
    table = {}
    for line in machine.summary().splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        if re.fullmatch(r"[\d,]+", cells[-1]):
            table[cells[0]] = (cells[1], int(cells[-2].replace(",", "")), int(cells[-1].replace(",", "")))
    return table


def test_totals():
    model = SpikingSequential(nn.Linear(700, 1024), PSU(), nn.Linear(1024, 20, bias=False), SlidingPSN(4))
    machine = to_state_machine(model, (700,))
    table = rows(machine)
    assert table["0"][1:] == (700 * 1024 + 1024, 0)
    assert table["1"][1:] == (0, 2 * 1024 * 4)
    assert table["2"][1:] == (1024 * 20, 0)
    assert table["3"][1:] == (4 + 1, 3 * 20 * 4)
    parameters = sum(row[1] for name, row in table.items() if name != "total")
    state = sum(row[2] for name, row in table.items() if name != "total")
    assert table["total"][-2:] == (parameters, state)
    learned = sum(p.numel() for p in model.parameters())
    assert parameters == learned


def test_learned_matrices():
    """Those on and below the diagonal, and the bias."""
    model = SpikingSequential(IPSU(10), RPSU(10, bias=True))
    nn.init.ones_(model[1].estimate.step_bias)  # a bias that is still zero is not counted: the machine drops it
    nn.init.normal_(model[1].estimate.step_bias)
    table = rows(to_state_machine(model, (3,)))
    assert [table["0"][1], table["1"][1]] == [55, 55 + 10]


def test_state_is_what_a_step_returns():
    machine = to_state_machine(SpikingSequential(nn.Linear(3, 5), PSU(), nn.Linear(5, 2), SlidingPSN(3)), (3,))
    _, state = machine.step(torch.zeros(1, 3), machine.initial_state(1))
    assert rows(machine)["total"][-1] == sum(value.nbytes for value in state.values())


def test_footer():
    machine = to_state_machine(nn.Linear(3, 5), (3,))
    assert machine.summary().endswith("input (3,), horizon unbounded, latency 0 steps")
    mean = StateMachine((Node("late", ops.Wait(2), ("x",)), Node("mean", ops.Readout("mean"), ("late",))), (3,))
    assert mean.summary().endswith("latency 2 steps, 8 bytes of step counter")
    assert isinstance(mean.initial_state()["step"], np.ndarray)
    assert mean.initial_state()["step"].nbytes == 8


def test_operators_by_hand():
    """Gains, decays and a bias are learned; the steps of a staircase are given."""
    exponentials, biased = (ops.Exponentials([1.0, 2.0], [0.5, 0.1], bias) for bias in (0.0, 0.3))
    stairs, reset = ops.Staircase([0.0, 1.0, 2.0], 0.3, 0.1), ops.StrictLeak(1.0, 0.5)
    lookup = ops.SigmoidTable()
    nodes = (
        Node("plain", ops.Filter(exponentials), ("x",)),
        Node("biased", ops.Filter(biased), ("plain",)),
        Node("stairs", ops.SpikingNeuron(ops.Identity(), biased, stairs, reset, 1.0, ">="), ("biased",)),
        Node("table", ops.SpikingNeuron(ops.Identity(), biased, lookup, reset, 1.0, ">="), ("stairs",)),
    )
    table = rows(StateMachine(nodes, (3,)))
    assert table["plain"] == ("Filter", 4, 4 * 2 * 3)
    assert table["biased"] == ("Filter", 5, 4 * 2 * 3)
    assert table["stairs"][1:] == (5, 4 * (2 + 1) * 3)
    assert table["table"] == table["stairs"]
