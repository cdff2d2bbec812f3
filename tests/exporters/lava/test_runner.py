"""The runner of whole numbers steps, runs and traces alike; Lava's runs whole sequences and says so."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.exporters.lava import runner as room
from psu_deploy.machine import ops
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


def x(T=T, B=2, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (T, B, 4)).astype(np.float32)


def machine(*more):
    return oracle.machine((4,), linear(8, 4), zoo.NEURONS["rpsu"], linear(3, 8), *more)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("psu_deploy.files.hdf5.read._rehearse", lambda *_: None)
        return psu.export(machine(), tmp_path_factory.mktemp("a") / "net.net", target="lava", calibration=x()).path


@pytest.fixture
def runner(path):
    return psu.load(path, simulator="integer")


@pytest.fixture
def in_lava(path, monkeypatch, tmp_path):
    """A runner of Lava's that has an interpreter, and never gets to use it."""
    found = type("Found", (), {"python": tmp_path / "python"})
    monkeypatch.setattr(room, "find", lambda: found)
    return psu.load(path)


def test_what_it_says_of_itself(runner, in_lava, path):
    assert (runner.name, runner.rounds, runner.resumes, runner.repeats) == ("integer reference", True, True, None)
    assert (in_lava.name, in_lava.rounds, in_lava.resumes) == ("Lava, fixed point", True, False)
    assert in_lava.repeats.name == "integer reference"
    assert runner.input_shape == (4,)
    assert runner.state == {}


def test_stepping_running_and_tracing_are_one(runner):
    whole = runner.run(x())
    assert whole.dtype == np.float32
    assert whole.shape == (T, 2, 3)
    np.testing.assert_array_equal(runner.run(x()), whole)
    trace = runner.trace(x())
    np.testing.assert_array_equal(trace.output, whole)
    assert trace.spikes.keys() == {"l1"}
    assert trace.spikes["l1"].dtype == np.float32
    runner.reset(2)
    np.testing.assert_array_equal(np.stack([runner.step(row) for row in x()]), whole)


def test_it_is_close_to_the_machine(runner):
    """Outputs in real units; the input is exact, so only weights and states were rounded."""
    expected = machine().trace(x().astype(np.float64))
    found = runner.trace(x())
    same = (expected.spikes["l1"] == found.spikes["l1"]).all(-1)
    assert same.mean() > 0.8
    np.testing.assert_allclose(found.output[same], expected.output[same], atol=0.05)


def test_going_on(runner):
    whole = runner.run(x())
    first = runner.run(x()[:2])
    second = runner.run(x()[2:], reset=False)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)


def test_a_trace_disturbs_nothing(runner):
    whole = runner.run(x())
    runner.reset(2)
    first = [runner.step(row) for row in x()[:3]]
    runner.trace(x(4, 5, seed=3))
    assert runner.batch_size == 2
    np.testing.assert_array_equal(np.stack([*first, *(runner.step(row) for row in x()[3:])]), whole)


def test_samples_know_nothing_of_each_other(runner):
    both = runner.run(x(B=3))
    for b in range(3):
        np.testing.assert_array_equal(runner.run(x(B=3)[:, b : b + 1])[:, 0], both[:, b])


def test_another_batch_size(runner):
    assert runner.batch_size is None
    with pytest.raises(psu.StateError, match=re.escape("call reset(batch_size=...) before the first step")):
        runner.step(x()[0])
    runner.reset(2)
    with pytest.raises(psu.StateError, match=r"call reset\(batch_size=3\) first"):
        runner.step(x(B=3)[0])
    with pytest.raises(psu.StateError, match=r"the state is that of 2 sample\(s\), x has 3"):
        runner.run(x(B=3), reset=False)
    for size in (0, -1, 1.0, None):
        with pytest.raises(psu.InputError, match="batch_size"):
            runner.reset(size)


def test_the_horizon(runner):
    with pytest.raises(psu.HorizonError, match="7 steps"):
        runner.run(x(T + 1))
    with pytest.raises(psu.HorizonError, match="7 steps"):
        runner.trace(x(T + 1))
    runner.run(x())
    with pytest.raises(psu.HorizonError, match="step 7 is past the horizon"):
        runner.step(x()[0])
    runner.run(x(4))
    with pytest.raises(psu.HorizonError, match="past the horizon"):
        runner.run(x(3), reset=False)
    runner.trace(x())


def test_a_state_from_elsewhere(runner):
    with pytest.raises(psu.StateError, match="starts from silence"):
        runner.reset(2, {"l1.V": np.zeros((2, 8))})
    with pytest.raises(psu.StateError, match="starts from silence"):
        runner.trace(x(), {"l1.V": np.zeros((2, 8))})
    with pytest.raises(psu.StateError, match="starts from silence"):
        runner.reset(2, {})  # its own `state`, which does not say where it is


@pytest.mark.full
@pytest.mark.parametrize("kind", ["mean", "sum", "last"])
def test_readouts(tmp_path, kind):
    """Running totals of what the network without a readout gives."""
    paths = [
        psu.export(source, tmp_path / f"{index}.net", target="lava", calibration=x()).path
        for index, source in enumerate([machine(), machine(ops.Readout(kind))])
    ]
    plain, decoded = (psu.load(path, simulator="integer") for path in paths)
    expected = oracle.read_out(kind, plain.run(x()).astype(np.float64))
    np.testing.assert_allclose(decoded.run(x()), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(decoded.trace(x()).output, decoded.run(x()))
    decoded.reset(2)
    np.testing.assert_allclose(np.stack([decoded.step(row) for row in x()]), expected, rtol=1e-6, atol=1e-6)
    parts = [decoded.run(x()[:2]), decoded.run(x()[2:], reset=False)]
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-6, atol=1e-6)


def test_images_come_back_in_their_shape(tmp_path):
    source = oracle.machine((2, 5), ops.Conv1d(np.ones((3, 2, 2)), None, (1,), ((0, 0),), (1,), 1), zoo.NEURONS["psu"])
    given = np.random.default_rng(0).integers(0, 2, (T, 2, 2, 5)).astype(np.float32)
    runner = psu.load(psu.export(source, tmp_path / "n.net", target="lava", calibration=given), simulator="integer")
    assert runner.run(given).shape == source.run(given).shape == (T, 2, 3, 4)
    assert runner.trace(given).spikes["l1"].shape == (T, 2, 3, 4)


WRONG = {
    "nan": (np.full((1, 1, 4), np.nan, np.float32), "x holds NaN or infinity"),
    "float64": (x().astype(np.float64), "x must be float32, got float64"),
    "features": (x()[..., :3], "x must be time-first"),
    "no batch": (x()[0], "x must be time-first"),
    "torch": (torch.from_numpy(x()), "a Lava runner takes numpy"),
    "a list": (x().tolist(), "got list"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("way", ["run", "trace"])
def test_wrong_input(runner, kind, way):
    values, message = WRONG[kind]
    with pytest.raises(psu.InputError, match=re.escape(message)):
        getattr(runner, way)(values)


def test_lava_runs_whole_sequences(in_lava, monkeypatch):
    """From their start: the second part of one is refused, before anything is started."""
    calls = []

    def run_job(python, network, numbers, *, steps, samples, record, **_):
        calls.append((steps, samples))
        rows = np.zeros((steps * samples, 3), np.int32)
        return type(
            "Result", (), {"output": rows, "layers": {k: np.zeros((steps * samples, 8), np.int32) for k in record}}
        )

    monkeypatch.setattr(room, "run_job", run_job)
    in_lava.run(x())
    for call in (lambda: in_lava.step(x()[0]), lambda: in_lava.run(x()[:1], reset=False)):
        with pytest.raises(psu.StateError, match=r"Lava runs whole sequences from their start; use run\(x\), or load"):
            call()
    in_lava.reset(2)
    in_lava.step(x()[0])
    with pytest.raises(psu.StateError, match="whole sequences"):
        in_lava.step(x()[1])
    assert in_lava.trace(x()).spikes["l1"].shape == (T, 2, 8)
    assert calls == [(T, 2), (1, 2), (T, 2)]


def test_samples_come_back_in_order(in_lava, monkeypatch):
    """Sample after sample there, time-first here."""

    def run_job(python, network, numbers, **_):
        return type("Result", (), {"output": numbers.reshape(-1, 4)[:, :3].astype(np.int32), "layers": {}})

    monkeypatch.setattr(room, "run_job", run_job)
    unit = np.array(in_lava.facts["units"])
    np.testing.assert_allclose(in_lava.run(x(B=5)), x(B=5)[..., :3] * unit, rtol=1e-6)


def test_an_unknown_simulator(path):
    with pytest.raises(psu.InputError, match="is one of lava, integer, got 'loihi'"):
        psu.load(path, simulator="loihi")
    with pytest.raises(psu.InputError, match="it takes simulator, timeout"):
        psu.load(path, threads=1)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_time_limit_of_nothing(path, timeout):
    with pytest.raises(psu.InputError, match="timeout is a number of seconds and must be above 0"):
        psu.load(path, simulator="integer", timeout=timeout)


def test_no_lava_is_needed_for_whole_numbers(path, monkeypatch):
    monkeypatch.setattr(room, "find", lambda: pytest.fail("nobody needs it"))
    assert psu.load(path, simulator="integer").run(x()).shape == (T, 2, 3)


class TestVerify:
    def test_what_rounding_changed_is_measured(self, runner, tmp_path):
        report = psu.verify(machine(), runner, x())
        assert report.ok
        (comparison,) = report.comparisons
        assert (comparison.first, comparison.second, comparison.rule) == ("machine", "integer reference", "measured")
        expected = (machine().trace(x()).spikes["l1"] != runner.trace(x()).spikes["l1"]).sum()
        assert comparison.spike_flips == expected
        assert report.verdict.startswith("MEASURED: rounding to integers changed ")
        assert any("int8 weights" in note for note in report.notes)
        json.loads(report.save(tmp_path / "report.json").read_text(), parse_constant=pytest.fail)

    def test_lava_must_repeat_the_integers(self, in_lava, monkeypatch):
        """An engine that gets one spike of one neuron wrong."""
        reference = in_lava.repeats

        def send(self, given, record):
            if self.name == "integer reference":
                return original(self, given, record)
            copy = reference._copy(in_numpy=True)
            copy.reset(given.shape[1])
            sent = original(copy, given, record)
            sent.layers[0][3, 1, 5] ^= wrong
            return sent

        original = room.LavaRunner._send
        monkeypatch.setattr(room.LavaRunner, "_send", send)
        wrong = 0
        report = psu.verify(machine(), in_lava, x())
        assert [(c.first, c.second, c.rule) for c in report.comparisons] == [
            ("machine", "integer reference", "measured"),
            ("integer reference", "Lava, fixed point", "exact"),
        ]
        assert report.ok
        assert "EQUIVALENT: 96 spikes compared, 0 flips; rounding to integers changed" in report.verdict
        wrong = 1
        report = psu.verify(machine(), in_lava, x())
        assert not report.ok
        assert "Lava, fixed point does not repeat the integer reference: 1 of 96 spikes differ" in report.verdict
        assert "first at layer 'l1', step 3, sample 1, neuron (5,)" in report.verdict


@pytest.mark.full
def test_random_networks_step_as_they_run(tmp_path):
    for seed in range(3):
        source = networks.machine(seed, T)
        given = networks.spikes(source, T, 2)
        artifact = psu.export(source, tmp_path / f"{seed}.net", target="lava", calibration=given)
        runner = psu.load(artifact, simulator="integer")
        whole = runner.run(given)
        runner.reset(2)
        np.testing.assert_array_equal(np.stack([runner.step(row) for row in given]), whole)


def test_input_beyond_the_calibration_data_is_cut_and_said(runner, caplog):
    """Spikes were what it was calibrated on; a three counts as one."""
    loud = x()
    loud[0, 0] = 3.0
    share = re.escape(f"{4 / loud.size:.2%} of the input lies outside 0 .. 1")
    np.testing.assert_array_equal(runner.run(loud), runner.run(loud.clip(0, 1)))
    assert len(caplog.records) == 1
    assert re.match(share, caplog.records[0].message)
    report = psu.verify(machine(), runner, loud)
    assert any(re.match(share, note) for note in report.notes)


def test_input_like_the_calibration_data_is_not(runner, caplog):
    runner.run(x())
    assert not caplog.records
    assert not runner.notes(x())
