"""What the exporter writes comes back in as the same network."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

import psu_deploy as psu
from tests.exporters.nir.importing.nir_graphs import optional

optional("nir")


def stairs():
    return psu.Staircase(levels=7)


MODELS = {
    "psu": lambda: [nn.Linear(6, 8), psu.PSU(threshold=0.1, estimator=stairs()), nn.Linear(8, 3)],
    "psu_conv": lambda: [
        nn.Conv2d(2, 4, 3),
        psu.PSU(threshold=0.1, estimator=stairs()),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    ],
    "exponentials": lambda: [nn.Linear(6, 8), psu.IPSU(9, threshold=0.1, temporal="exponentials", estimator=stairs())],
    "sliding": lambda: [nn.Linear(6, 8), psu.SlidingPSN(3)],
    "sliding_conv": lambda: [nn.Conv2d(2, 4, 3), psu.SlidingPSN(3)],
    "lif_soft": lambda: [nn.Linear(6, 8), psu.LIF(tau=3.0, threshold=0.2, fire_on=">")],
    "lif_hard": lambda: [nn.Linear(6, 8), psu.LIF(tau=3.0, threshold=0.2, reset="hard", decay_input=False)],
}


@pytest.mark.parametrize("simulator", [None, "portable"])
@pytest.mark.parametrize("name", MODELS)
def test_an_exported_network_comes_back(name, simulator, tmp_path):
    features = (2, 6, 6) if "conv" in name else (6,)
    machine = psu.to_state_machine(psu.SpikingSequential(*MODELS[name]()).eval(), features)
    artifact = psu.export(machine, tmp_path / "net.nir", target="nir", simulator=simulator)
    again = psu.importers.nir.load(artifact.path)
    x = np.random.default_rng(3).normal(0.5, 2.0, (20, 3, *features))
    expected = machine.run(x)
    assert expected.any()
    np.testing.assert_allclose(again.run(x).reshape(expected.shape), expected, atol=1e-5)
    psu.export(again, tmp_path / "net.onnx")
