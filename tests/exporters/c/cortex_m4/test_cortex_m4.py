"""What an export computes on a Cortex-M4 without Python is what it computes here, spike for spike and bit for bit."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.exporters.c.cortex_m4 import board, networks

pytestmark = pytest.mark.full

RAM = 64 * 1024
"""Of a small Cortex-M4."""


@pytest.fixture(scope="module", autouse=True)
def _tools():
    """Without them the tests are skipped, aloud; unless "arm" is said to be there."""
    missing = board.missing()
    if missing and "arm" not in os.environ.get("PSU_DEPLOY_REQUIRE", "").split(","):
        pytest.skip(f"NOTHING WAS RUN ON A CORTEX-M4: {missing} is not installed; scripts/arm installs it")
    assert not missing


@pytest.fixture(scope="module")
def machine():
    return networks.machine("rpsu")


@pytest.mark.parametrize("form", ["float32", "int8", pytest.param("float32, no FPU", marks=pytest.mark.nightly)])
def test_digits(machine, form, tmp_path):
    device, runner, x = networks.deploy(machine, form, tmp_path)
    expected, found = runner.trace(x), device.run()
    for layer, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[layer], spikes[:, 0])
        assert 0.02 < spikes.mean() < 0.98
    if form != "int8":
        np.testing.assert_array_equal(found.y.view(np.uint32), expected.output[:, 0].view(np.uint32))
    else:  # the mean over the steps is made by whoever calls; it must be that of the reference
        reference = runner.repeats.run(x)[:, 0]
        mean = np.cumsum(found.y * np.array(runner.facts["units"]), 0) / np.arange(1, networks.T + 1)[:, None]
        np.testing.assert_allclose(mean, reference, rtol=1e-5, atol=1e-6)
    seen = device.measure()
    assert seen.ram < RAM
    assert 0 < seen.stack < 1024
    assert 1000 < seen.instructions < 10**7
