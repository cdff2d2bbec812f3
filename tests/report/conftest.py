"""Verified networks and their pages, made by hand and small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.report import page as page_module
from psu_deploy.report.page import page
from psu_deploy.report.pictures import Pictures
from tests.zoo import neuron

T, B, N = 12, 5, 6


def weights(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.0, 1.0, shape)


def network(name="hidden", level=0.4, **changes):
    """Two layers of neurons: a leak with a reset, then LIF, whose spikes feed back."""
    lif = replace(ops.LIFNeuron(2.0, True, 0.3, "hard", ">="), **changes)
    nodes = (
        Node("in", ops.Linear(weights(N, 4), weights(N, seed=1)), ("x",)),
        Node(name, neuron(ops.Leak(0.4, 0.6), None, ops.StrictLeak(0.7, 0.6), threshold=level), ("in",)),
        Node("between", ops.Linear(weights(N, N, seed=2)), (name,)),
        Node("last", lif, ("between",)),
        Node("out", ops.Linear(weights(3, N, seed=3)), ("last",)),
    )
    return StateMachine(nodes, (4,))


def inputs(seed=0, steps=T, samples=B):
    return np.random.default_rng(seed).normal(0.3, 1.0, (steps, samples, 4)).astype(np.float32)


def seen(model, other, x=None, **options):
    """Report and evidence of a verification."""
    evidence = psu.Evidence()
    return psu.verify(model, other, inputs() if x is None else x, evidence=evidence, **options), evidence


def page_of(model, other, x=None, **options):
    return page(*seen(model, other, x, **options))


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without pictures, which take most of the time."""
    none = Pictures((), (), (), False, (), (), (), None, (0, 0))
    monkeypatch.setattr(page_module, "pictures", lambda collected: none)


@pytest.fixture(scope="session")
def good():
    return seen(network(), network())


@pytest.fixture(scope="session")
def wrong():
    """Another threshold in the first layer of neurons."""
    return seen(network(), network(level=0.5))


@pytest.fixture(scope="session")
def text(wrong):
    """Its page, with everything on it that a page can have."""
    return page(*wrong, command="psu-deploy verify a b")
