"""A membrane that is read out: against its recurrence, and in every target."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from tests.helpers import ROUNDING, check_capture


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("tau", [1.0, 2.0, 7.5])
def test_its_recurrence(tau, decay_input):
    x = np.random.default_rng(0).standard_normal((9, 2, 3))
    v, expected = np.zeros((2, 3)), []
    for x_t in x:
        v = (1 - 1 / tau) * v + (x_t / tau if decay_input else x_t)
        expected.append(v)
    found = psu.Membrane(tau, decay_input=decay_input)(torch.from_numpy(x))
    np.testing.assert_allclose(found, expected, **ROUNDING)


def test_less_than_a_step_is_refused():
    with pytest.raises(psu.InputError, match=r"tau must be at least 1 step, got 0\.5"):
        psu.Membrane(0.5)


def network():
    torch.manual_seed(0)
    return psu.SpikingSequential(nn.Linear(4, 8), psu.PSU(threshold=0.1), nn.Linear(8, 2), psu.Membrane(3.0))


def test_it_is_captured():
    machine = check_capture(network(), (4,))
    assert type(machine.nodes[-1].layer).__name__ == "Filter"


@pytest.mark.full
@pytest.mark.parametrize("last", [False, True])
def test_it_is_verified_in_onnxruntime(tmp_path, last):
    class Answer(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network()

        def forward(self, x):
            return self.network(x)[-1]

    model = Answer() if last else network()
    artifact = psu.export(model, tmp_path / "net.onnx", input_shape=(4,))
    x = np.random.default_rng(0).random((10, 20, 4), np.float32)
    assert psu.verify(model, artifact, x).ok
