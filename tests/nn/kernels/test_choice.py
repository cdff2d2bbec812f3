"""What runs fused and what does not: nothing changes its meaning without a word."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.func import vmap

from psu_deploy.capture import to_state_machine
from psu_deploy.capture.modes import as_deployed
from psu_deploy.errors import InputError
from psu_deploy.nn import kernels
from psu_deploy.nn.kernels import choice
from psu_deploy.nn.neurons import LIF, PSN, PSU, RPSU, SPSN, SigmoidTable, Staircase
from psu_deploy.nn.temporal import Leak, SlidingWindow
from tests.nn.kernels.neurons import ALL, currents


def runs_fused(neuron, x):
    x = x.detach().requires_grad_()
    y = neuron(x)
    names, todo = set(), [y.grad_fn]
    while todo:
        node = todo.pop()
        names.add(type(node).__name__)
        todo += [parent for parent, _ in node.next_functions if parent is not None]
    return any("Fused" in name for name in names)


@pytest.mark.parametrize("name", ALL)
def test_fused(name):
    assert runs_fused(ALL[name](5), currents(5, 2, 4))


class Louder(PSU):
    def potentials(self, x):
        return super().potentials(2 * x)


class Later(LIF):
    def _charge(self, membrane, current):
        return super()._charge(membrane, current) / 2


class Slower(Leak):
    def forward(self, x):
        return super().forward(x) / 2


class Mine(nn.Module):
    def forward(self, x):
        return x.relu()


def with_operator(operator):
    neuron = PSU()
    neuron.reset = operator
    return neuron


def hooked(neuron, part):
    getattr(neuron, part).register_forward_hook(lambda module, inputs, output: output / 2)
    return neuron


def overwritten(neuron, name, value):
    setattr(neuron, name, value)
    return neuron


STEP_BY_STEP = {
    "table": lambda: PSU(estimator=SigmoidTable()),
    "another estimator": lambda: PSU(estimator=Mine()),
    "many steps": lambda: PSU(estimator=Staircase(200)),
    "potentials of its own": Louder,
    "charge of its own": Later,
    "reset by another operator": lambda: with_operator(SlidingWindow(2)),
    "reset by a leak of its own": lambda: with_operator(Slower(0.5, 0.5)),
    "a hook on the reset": lambda: hooked(PSU(), "reset"),
    "a hook on the estimator": lambda: hooked(PSU(), "estimator"),
    "another margin": lambda: overwritten(PSU(), "margin", lambda x: (x, x, x)),
    "no recurrence": lambda: PSN(5),
    "at random": lambda: SPSN(),
}


@pytest.mark.parametrize("name", STEP_BY_STEP)
def test_step_by_step(name):
    assert not runs_fused(STEP_BY_STEP[name](), currents(5, 2, 4))


@pytest.mark.parametrize("part", ["integrate", "estimate"])
def test_a_hook_on_an_operator_is_called(part):
    neuron, x = RPSU(5), currents(5, 2, 64)
    before = neuron(x)
    hooked(neuron, part)
    hooked_spikes = neuron(x)
    with kernels.step_by_step():
        assert torch.equal(neuron(x), hooked_spikes)
    assert not torch.equal(before, hooked_spikes)


def test_an_operator_of_ones_own_is_called():
    neuron, x = RPSU(5), currents(5, 2, 64)
    neuron.integrate = Slower(0.5, 0.5)
    with kernels.step_by_step():
        expected = neuron(x)
    assert torch.equal(neuron(x), expected)
    assert runs_fused(neuron, x)


def test_only_float32_outside_of_transforms():
    assert not runs_fused(PSU(), currents(5, 2, 4).double())
    assert runs_fused(PSU(), currents(5, 2, 4).bfloat16())
    seen = []
    neuron = PSU()
    neuron.integrate.register_forward_hook(lambda *_: seen.append(1))
    vmap(neuron, in_dims=1, out_dims=1)(currents(5, 3, 2, 4))
    assert seen


def test_small_sequences_do_not_load_numba(monkeypatch):
    monkeypatch.setattr(choice, "FORCED", "")
    assert not runs_fused(PSU(), currents(5, 2, 4))
    assert runs_fused(PSU(), currents(5, 2, 512))


def test_what_is_captured_or_verified_runs_step_by_step(monkeypatch):
    def refuse(*_):
        raise AssertionError("fused")

    monkeypatch.setattr("psu_deploy.nn.kernels.operators.spiking_unit.__class__.__call__", refuse)
    neuron, x = PSU(), currents(5, 2, 4)
    with pytest.raises(AssertionError, match="fused"):
        neuron(x)
    with as_deployed(neuron):
        neuron(x)
    to_state_machine(neuron, (4,))


def test_forced_by_the_environment(monkeypatch):
    assert [choice._forced(e) for e in ({}, {"PSU_DEPLOY_KERNELS": "torch"})] == ["", "torch"]
    with pytest.raises(InputError, match="or not set, got 'cuda'"):
        choice._forced({"PSU_DEPLOY_KERNELS": "cuda"})
    assert kernels.available()["cpu"] == "numba"
    monkeypatch.setattr(choice, "FORCED", "torch")
    assert kernels.available() == {}
    assert not runs_fused(PSU(), currents(5, 2, 4))


@pytest.mark.parametrize("name", ["psu", "rpsu_exponentials", "PLIF-soft-True-False"])
def test_without_numba_everything_runs_step_by_step(name, monkeypatch):
    neuron, x = ALL[name](5), currents(5, 2, 64)
    fused = neuron(x)
    monkeypatch.setattr(choice, "_INSTALLED", False)
    assert not runs_fused(neuron, x)
    assert torch.equal(neuron(x), fused)
    torch.ops.psu_deploy.exponentials(x, torch.ones(2), torch.ones(2))


@pytest.mark.nightly
def test_numba_is_not_imported_where_it_is_not_needed():
    script = """
import sys
sys.modules["numba"] = None
import torch, psu_deploy as psu
for neuron in (psu.PSU(), psu.PLIF(), psu.RPSU(4, temporal="exponentials")):
    neuron(torch.ones(4, 2, 8, requires_grad=True)).sum().backward()
print("ran")
"""
    environment = {**os.environ, "PSU_DEPLOY_KERNELS": ""}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "ran", done.stderr
