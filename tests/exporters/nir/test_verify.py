"""verify() runs module, machine and file against each other, and sees a file that somebody changed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import psu_deploy as psu
from tests.exporters.nir.importing.nir_graphs import optional
from tests.exporters.nir.machines import ENGINES, MACHINES, MODULES

h5py = optional("h5py")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Using padding='same'")


def x(features, T=8, B=5):
    return np.random.default_rng(3).normal(0.3, 1.5, (T, B, *features)).astype(np.float32)


@pytest.mark.full
@pytest.mark.parametrize("engine", ENGINES)
def test_three_way(file_of, opened, engine):
    model, features = MODULES["captured, dense"]
    dialect = engine if engine in ("canonical", "sinabs") else "portable"
    runner = opened(file_of("captured, dense", dialect), engine)
    report = psu.verify(model, runner, x(features))
    assert report.ok, report
    assert report.spike_flips == 0
    name = "nir in psu_deploy" if engine == "canonical" else f"nir in {engine}"
    assert [(c.first, c.second) for c in report.comparisons] == [("module", "machine"), ("machine", name)]
    assert [layer.name for layer in report.comparisons[1].layers] == list(MACHINES["captured, dense"].spiking)
    assert report.spikes_compared == 2 * 8 * 5 * (12 + 10 + 8)
    assert f"machine vs {name}" in str(report)


@pytest.mark.full
@pytest.mark.parametrize("name", ["captured, image", "captured, sliding", "captured, lif", "captured, lif soft"])
@pytest.mark.parametrize("engine", ["norse", "spikingjelly"])
def test_modules_of_every_kind(file_of, opened, name, engine):
    model, features = MODULES[name]
    report = psu.verify(model, opened(file_of(name, "portable"), engine), x(features))
    assert report.ok, report


@pytest.mark.full
def test_a_path_is_opened_as_it_is(file_of):
    report = psu.verify(MACHINES["captured, dense"], file_of("captured, dense", "portable"), x((6,)))
    assert report.comparisons[0].second == "nir in psu_deploy"
    assert report.ok


@pytest.fixture
def tampered(file_of, tmp_path):
    """A copy of a file in which one number is another."""

    def change(node, field, by, index=0, dialect="portable"):
        path = shutil.copy(file_of("captured, dense", dialect), tmp_path / "net.nir")
        with h5py.File(path, "r+") as file:
            data = file[f"node/nodes/{node}/{field}"]
            values = data[()]
            values.flat[index] += by
            data[...] = values
        return path

    return change


@pytest.mark.full
@pytest.mark.parametrize("engine", ["canonical", "norse", "snntorch", "spikingjelly"])
def test_one_weight_is_another(tampered, opened, engine):
    path = tampered("layer_2", "weight", 0.5)
    report = psu.verify(MACHINES["captured, dense"], opened(path, engine), x((6,)))
    assert not report.ok
    assert report.spike_flips > 0
    assert report.first_divergence is not None
    assert "NOT EQUIVALENT" in str(report)


@pytest.mark.full
def test_a_bias_of_the_readout_is_another(tampered, opened):
    """No spike flips; the output alone tells."""
    path = tampered("layer_6", "bias", 0.01)
    report = psu.verify(MACHINES["captured, dense"], opened(path, "canonical"), x((6,)))
    assert not report.ok
    assert report.spike_flips == 0
    assert any("output" in failure for c in report.comparisons for failure in c.failures)


@pytest.mark.full
def test_an_approximation_is_told_and_its_flips_are_counted(tmp_path):
    model = psu.SpikingSequential(MODULES["captured, dense"][0][0], psu.PSU(threshold=0.5)).eval()
    machine = psu.to_state_machine(model, (6,))
    given = x((6,), 30, 40)
    options = {"allow_approximation": True, "calibration": given, "max_flip_rate": 1.0}
    artifact = psu.export(machine, tmp_path / "net.nir", target="nir", **options)
    report = psu.verify(machine, artifact, given)
    assert not report.ok
    assert report.spike_flips > 0
    for note in artifact.approximations:
        assert note in report.notes
    assert f"{report.spike_flips / report.spikes_compared:.3%} of the spikes flipped" in artifact.approximations[1]


@pytest.mark.full
def test_another_model_is_noticed(file_of, opened):
    runner = opened(file_of("captured, sliding", "portable"), "norse")
    with pytest.raises(psu.InputError, match="it was exported from another model"):
        psu.verify(MACHINES["captured, dense"], runner, x((6,)))
    report = psu.verify(MACHINES["captured, lif"], runner, x((5,)))
    assert not report.ok
