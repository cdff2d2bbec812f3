"""Random networks in Lava itself: its fixed point repeats our integers."""

from __future__ import annotations

import numpy as np
import pytest

import psu_deploy as psu
from tests.exporters.integers import networks

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

T, SAMPLES = 5, 3


def seeds(every, in_ci):
    """The rest is nightly. In CI are dense networks, images and rows, every kind of neuron and of input."""
    return [pytest.param(seed, marks=() if seed in in_ci else pytest.mark.nightly) for seed in every]


@pytest.mark.parametrize("seed", seeds(range(24), (3, 15, 19, 20)))
def test_lava_repeats_every_number(lava_python, tmp_path, seed):
    machine = networks.machine(seed, T)
    x = networks.spikes(machine, T, SAMPLES, seed, ("binary", "counts", "real")[seed // 3 % 3])
    artifact = psu.export(machine, tmp_path / "net.net", target="lava", calibration=x)
    lava, integer = psu.load(artifact, timeout=120), psu.load(artifact, simulator="integer")
    expected, found = integer.trace(x), lava.trace(x)
    assert expected.spikes.keys() == found.spikes.keys() == set(machine.spiking)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)
    np.testing.assert_array_equal(found.output, expected.output)
    assert any(spikes.any() for spikes in expected.spikes.values())


@pytest.mark.parametrize("seed", seeds(range(0, 24, 4), (0,)))
def test_verify(lava_python, tmp_path, seed):
    """What rounding changed is measured, and every number is repeated."""
    machine = networks.machine(seed, T)
    x = networks.spikes(machine, T, SAMPLES, seed, ("binary", "counts", "real")[seed // 4 % 3])
    artifact = psu.export(machine, tmp_path / "net.net", target="lava", calibration=x)
    fixed = psu.verify(machine, psu.load(artifact, timeout=120), x)
    assert fixed.ok, fixed
    assert [comparison.rule for comparison in fixed.comparisons] == ["measured", "exact"]
