"""What export writes, what it says about it, and what it leaves behind when it cannot."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.exporters.lava.export import report_path
from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests import zoo
from tests.exporters.integers import networks, oracle

T = 6


@pytest.fixture(autouse=True)
def _no_rehearsal(monkeypatch):
    """Another process reads every file first, in case it is damaged. Ours are not."""
    monkeypatch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)


def linear(outputs, inputs, seed=0):
    random = np.random.default_rng(seed)
    return ops.Linear(random.normal(0, 1, (outputs, inputs)), random.normal(0, 1, outputs))


def machine(neuron=zoo.NEURONS["rpsu"], *more):
    return oracle.machine((4,), linear(8, 4), neuron, *more)


def x(T=T, B=3):
    return np.random.default_rng(0).normal(0, 1, (T, B, 4)).astype(np.float32)


@pytest.fixture
def export(tmp_path):
    def run(source=None, calibration=None, **options):
        calibration = x() if calibration is None else calibration
        path = tmp_path / "out" / "net.net"
        return psu.export(source or machine(), path, target="lava", calibration=calibration, **options)

    return run


def test_the_artifact(export):
    source = machine(zoo.NEURONS["rpsu"], linear(3, 8))
    artifact = export(source)
    assert (artifact.target, artifact.fidelity, artifact.machine_hash) == ("lava", "approximate", source.content_hash)
    assert (artifact.latency, artifact.horizon, artifact.static_input) == (2, T + 2, False)
    assert {"psu-deploy", "h5py", "numpy"} == set(artifact.versions)
    assert "int8 weights, Loihi-2-style fixed point" in artifact.approximations[0]
    assert "144 spikes" in artifact.approximations[0]
    assert psu.load(artifact, simulator="integer").artifact == artifact
    assert export(machine(zoo.NEURONS["psu"])).horizon is None


def test_the_report_lies_beside_the_file(export):
    artifact = export()
    assert sorted(path.name for path in artifact.path.parent.iterdir()) == ["net.net", "net.quantisation.json"]
    said = json.loads(report_path(artifact.path).read_text(), parse_constant=pytest.fail)
    runner = psu.load(artifact, simulator="integer")
    assert said == json.loads(json.dumps(runner.report.to_dict()))
    assert said == runner.facts["report"]
    assert (said["steps"], said["samples"], said["spikes_compared"]) == (T, 3, T * 3 * 8)


@pytest.mark.full
def test_what_is_reported_is_counted_anew(export):
    source = networks.machine(1, T)
    given = networks.spikes(source, T, 4, kind="real")
    runner = psu.load(export(source, given), simulator="integer")
    expected, found = source.trace(given).spikes, runner.trace(given).spikes
    report = runner.report
    for layer in report.layers:
        if layer.name not in expected:
            assert layer.flip_rate is layer.firing_before is None
            continue
        before, after = expected[layer.name], found[layer.name]
        assert layer.flip_rate == pytest.approx((before != after).mean())
        assert layer.firing_before == pytest.approx(before.mean())
        assert layer.firing_after == pytest.approx(after.mean())
        silent = (before.sum((0, 1)) > 0) & (after.sum((0, 1)) == 0)
        assert layer.dead == pytest.approx(silent.mean())
        assert 0 <= layer.observed <= layer.bound <= 1
        assert layer.percentile <= layer.observed
    flips = sum((expected[name] != found[name]).sum() for name in expected)
    assert report.flip_rate == pytest.approx(flips / sum(v.size for v in expected.values()))
    rows = str(report)
    assert "Loihi-2-style fixed point, measured on 6 steps and 4 samples" in rows
    assert all(layer.name in rows for layer in report.layers)
    assert type(report).from_dict(json.loads(json.dumps(report.to_dict()))) == report


def alarms(artifact):
    report = psu.load(artifact, simulator="integer").report
    assert artifact.approximations[1:] == report.alarms
    assert all(alarm in str(report) for alarm in report.alarms)
    return " | ".join(report.alarms)


def lif(threshold, reset="soft"):
    return ops.LIFNeuron(2.0, True, threshold, reset, ">=")


def test_a_dead_layer(export):
    assert "layer 'l1' is dead: it never fired on the calibration data (neither did it before)" in alarms(
        export(machine(lif(100.0)))
    )


def test_a_layer_that_died(export):
    """Of two equal inputs that cancel but for a thousandth, eight bits leave nothing."""
    weight = np.array([[1.0, -0.9995]])
    source = oracle.machine((2,), ops.Linear(weight), zoo.neuron(o.Leak(1.0, 0.0), threshold=4e-4))
    found = alarms(export(source, np.ones((4, 2, 2), np.float32)))
    assert "layer 'l1' is dead: it never fired on the calibration data (at 100.0% before)" in found


def test_neurons_that_fell_silent(export):
    weight = np.array([[1.0, -0.9995], [1.0, 1.0]])
    source = oracle.machine((2,), ops.Linear(weight), zoo.neuron(o.Leak(1.0, 0.0), threshold=4e-4))
    found = alarms(export(source, np.tile(np.array([[[1, 1]], [[0, 0]]], np.float32), (2, 1, 1))))
    assert "layer 'l1': 50.0% of its neurons fell silent" in found
    assert "layer 'l1': 25.0% of its spikes flipped; prepare and fine-tune" in found


def test_a_layer_that_is_always_on(export):
    found = alarms(export(machine(zoo.neuron(zoo.LEAK, threshold=-100.0))))
    assert "layer 'l1' is always on: it fired at 100.0% (100.0% before)" in found


@pytest.mark.parametrize(("steps", "alarm"), [(32, False), (33, True)])
def test_simulation_only(export, steps, alarm):
    """A matrix of T steps keeps T - 1 sums, and R is one word more."""
    learned = o.PartialSums(np.tril(np.random.default_rng(0).normal(0, 1, (steps, steps))), np.zeros(steps))
    artifact = export(machine(zoo.neuron(learned, None, zoo.STRICT)), x(steps))
    found = alarms(artifact)
    assert (f"is simulation only: {steps} words of state per neuron" in found) == alarm
    assert psu.load(artifact, simulator="integer").report.simulation_only == alarm


def test_static_input(export):
    source = oracle.machine((4,), linear(8, 4), ops.Hold(), zoo.NEURONS["psu"])
    still = np.repeat(x(1), 5, axis=0)
    artifact = export(source, still)
    assert artifact.static_input
    runner = psu.load(artifact, simulator="integer")
    assert runner.run(still).shape == (5, 3, 8)
    for call in (lambda: export(source, x(5)), lambda: runner.run(x(5)), lambda: runner.trace(x(5))):
        with pytest.raises(psu.InputError, match="x changes from step to step"):
            call()


WRONG = {
    "nothing": (None, psu.InputError, "pass calibration=x, typical input"),
    "features": (x()[..., :3], psu.InputError, r"x must be time-first, \(T, B, 4\)"),
    "no batch": (x()[0], psu.InputError, "x must be time-first"),
    "integers": (x().astype(int), psu.InputError, "x must be float32 or float64, got int64"),
    "a list": (x().tolist(), psu.InputError, "got list"),
    "nan": (np.where(np.arange(4) == 2, np.nan, x()).astype(np.float32), psu.InputError, "NaN or infinity"),
    "too long": (x(T + 1), psu.HorizonError, "7 steps"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_calibration_that_does_not_fit(tmp_path, kind):
    values, error, message = WRONG[kind]
    with pytest.raises(error, match=message):
        psu.export(machine(), tmp_path / "net.net", target="lava", calibration=values)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["float64", "torch"])
def test_other_calibration(export, kind):
    wide = x().astype(np.float64)
    same = export(calibration=wide if kind == "float64" else torch.from_numpy(x()))
    assert psu.load(same, simulator="integer").facts["code"] == psu.load(export(), simulator="integer").facts["code"]


@pytest.mark.parametrize("name", ["net", "net.onnx", "net.NET"])
def test_another_suffix(tmp_path, name):
    with pytest.raises(psu.InputError, match=re.escape("a lava-dl network file must end in .net")):
        psu.export(machine(), tmp_path / name, target="lava", calibration=x())
    assert not list(tmp_path.iterdir())


def test_an_unknown_option(tmp_path):
    with pytest.raises(psu.InputError, match="has no option 'bits'; it takes calibration, input_range"):
        psu.export(machine(), tmp_path / "net.net", target="lava", calibration=x(), bits=8)
    with pytest.raises(psu.InputError, match="input_range must be one of max, percentile, got 'mean'"):
        psu.export(machine(), tmp_path / "net.net", target="lava", calibration=x(), input_range="mean")
    assert not list(tmp_path.iterdir())


def test_the_percentile(export):
    outlier = x(T, 400)
    outlier[0, 0, 0] = 500.0
    codes = [
        psu.load(export(None, outlier, input_range=r), simulator="integer").facts["code"] for r in ("max", "percentile")
    ]
    assert codes[0]["unit"] == pytest.approx(500 / 255)
    assert codes[1]["unit"] == pytest.approx(np.percentile(np.abs(outlier.astype(float)), 99.9) / 255)


def test_what_cannot_be_exported_leaves_nothing(tmp_path):
    with pytest.raises(psu.UnsupportedModelError):
        psu.export(machine(ops.Activation("relu")), tmp_path / "net.net", target="lava", calibration=x())
    assert not list(tmp_path.iterdir())


def test_a_file_that_does_not_compute_what_it_should(export, monkeypatch, tmp_path):
    """Whatever the cause: it is found before the file is moved into place, and what was there stays."""
    artifact = export()
    kept = {path: path.read_bytes() for path in artifact.path.parent.iterdir()}
    module = __import__("sys").modules["psu_deploy.exporters.lava.export"]
    as_hdf5 = module.as_hdf5

    def broken(network, metadata):
        network.layers[0].synapse.weight[:] = 0
        content = as_hdf5(network, metadata)
        network.layers[0].synapse.weight[:] = 127
        return content

    monkeypatch.setattr(module, "as_hdf5", broken)
    with pytest.raises(psu.InternalError, match="does not compute what it should"):
        export()
    assert {path: path.read_bytes() for path in artifact.path.parent.iterdir()} == kept


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(psu.ArtifactError, match="cannot write"):
        psu.export(machine(), tmp_path / "file" / "net.net", target="lava", calibration=x())
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.full
def test_calibration_data_shorter_than_the_horizon(export):
    """Steps that were never measured are an alarm; a network without a horizon has none."""
    horizon = machine().max_steps
    assert horizon > 3
    assert f"the calibration data have 3 of the {horizon} steps" in alarms(export(calibration=x(3)))
    assert "calibration data have" not in alarms(export(calibration=x(horizon)))
    leaky = machine(zoo.neuron(zoo.LEAK))
    assert "calibration data have" not in alarms(export(leaky, x(3)))


def test_a_time_constant_that_4096_parts_cannot_say(export):
    """1 - 1/5000 rounds to 4095/4096: a time constant of 4096 steps."""
    slow = machine(ops.LIFNeuron(5000.0, False, 1.0, "soft", ">="))
    artifact = export(slow)
    assert "layer 'l1': a time constant is off by 18%" in alarms(artifact)
    assert artifact.horizon - artifact.latency == T  # for ever would be 4096 times the input
    assert "time constant" not in alarms(export(machine(ops.LIFNeuron(50.0, False, 1.0, "soft", ">="))))


def test_a_convolution_that_lava_cannot_count_to(export):
    long = ops.Conv1d(np.ones((2, 1, 200)), None, (1,), ((0, 0),), (1,), 1)
    source = oracle.machine((1, 300), long, zoo.NEURONS["rpsu"])
    with pytest.raises(
        psu.UnsupportedModelError, match=r"l0 +Conv1d +a kernel, stride, padding or dilation beyond 127"
    ):
        export(source, np.ones((2, 1, 1, 300), np.float32))


def test_a_pooling_that_folded_in_would_be_too_long_is_a_layer_of_its_own(export):
    """AvgPool1d(8) and a kernel of 20 would be one of 160."""
    pool = ops.AvgPool((8,), (8,), ((0, 0),))
    conv = ops.Conv1d(np.ones((2, 1, 20)), None, (1,), ((0, 0),), (1,), 1)
    source = oracle.machine((1, 300), pool, conv, zoo.neuron(zoo.LEAK))
    assert export(source, np.ones((2, 1, 1, 300), np.float32)).latency == 2


@pytest.mark.parametrize(("louder", "kind"), [(3.0, "CUBA"), (200.0, "LIF")])
def test_a_quiet_channel_keeps_its_bits(export, louder, kind):
    """lava's own LIF has one threshold, so one scale for all: only where that costs no channel more than two bits."""
    weight = np.random.default_rng(0).uniform(0.5, 1.0, (8, 4))
    weight[0] = louder
    source = oracle.machine((4,), ops.Linear(weight, None), ops.LIFNeuron(2.0, True, 0.4, "hard", ">"))
    binary = (np.random.default_rng(0).random((T, 3, 4)) < 0.5).astype(np.float32)
    layer = psu.load(export(source, binary), simulator="integer").report.layers[0]
    assert layer.kind.endswith(kind)
    assert layer.weight_error < 0.03
