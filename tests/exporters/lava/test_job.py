"""The child: what it is given, what it gives, and how it fails. Where Lava is not needed, a script stands in for it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from psu_deploy.errors import ArtifactError, EngineError, InputError
from psu_deploy.exporters.integers import network as ir
from psu_deploy.exporters.lava import job, process_group
from psu_deploy.exporters.lava.job import run_job
from tests.exporters.integers.hand_made import Numbers, layer, run, write

X = np.zeros((6, 4), np.int32)
GOOD = """
import json, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
x = np.load(folder / "x.npy")
np.save(folder / "output.npy", {output})
for k in job["record"]:
    np.save(folder / f"layer_{{k}}.npy", np.full((6, 1), k, "int32"))
done = {{"versions": {{"python": "3.10"}}, "start_seconds": 1, "run_seconds": 2}}
(folder / "done.json").write_text(json.dumps(done))
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A script in the place of Lava; a job is then run by calling what is returned."""

    def put(script):
        (tmp_path / "child.py").write_text(script)
        monkeypatch.setattr(job, "MAIN", tmp_path / "child.py")
        return call

    def call(x=X, python=sys.executable, timeout=30.0, **options):
        given = {"steps": 3, "samples": 2} | options
        return run_job(Path(python), b"", x, timeout=timeout, **given)

    return put


def shared():
    return {path.name for path in Path("/dev/shm").iterdir()}


def assert_nothing_new(before):
    """What other runs have there at the same time goes away; what was left behind stays."""
    new, deadline = shared() - before, time.monotonic() + 120
    while new & shared():
        assert time.monotonic() < deadline, f"left in /dev/shm: {new & shared()}"
        time.sleep(0.1)


class TestGood:
    @pytest.mark.full
    def test_what_comes_back(self, child):
        result = child(GOOD.format(output="2 * x"))(X + 5, record=[3, 1, 3])
        assert np.array_equal(result.output, np.full((6, 4), 10))
        assert result.output.dtype == np.int32
        assert {k: int(rows[0, 0]) for k, rows in result.layers.items()} == {1: 1, 3: 3}
        assert (result.versions, result.start_seconds, result.run_seconds) == ({"python": "3.10"}, 1.0, 2.0)

    @pytest.mark.full
    def test_nothing_of_this_pythons_path_reaches_it(self, child, monkeypatch, tmp_path):
        (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong one')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
        script = "import sys; assert not any('elsewhere' in p for p in sys.path)\n"
        (tmp_path / "numpy.py").unlink()
        child(script + GOOD.format(output="x"))()


class TestWrongInput:
    @pytest.mark.parametrize(
        ("x", "sentence"),
        [
            (np.zeros((5, 4), int), r"samples\*steps = 6.*got \(5, 4\)"),
            (np.zeros(6, int), r"got \(6,\)"),
            (np.full((6, 4), 0.5), "whole numbers of 32 bits, got float64"),
            (np.full((6, 4), 2**31), "to 2147483648"),
        ],
    )
    def test_is_said_before_anything_starts(self, child, x, sentence):
        with pytest.raises(InputError, match=sentence):
            child("raise SystemExit('started')")(x)

    def test_no_interpreter(self, child, tmp_path):
        with pytest.raises(EngineError, match=r"Lava did not start: .*nowhere cannot be run"):
            child("")(python=tmp_path / "nowhere")


class TestFailures:
    def test_a_crash_says_the_last_lines(self, child):
        script = "import sys\nfor i in range(100): print('line', i, file=sys.stderr)\nraise ValueError('weights!')"
        with pytest.raises(EngineError, match="exit status 1; the last it said") as caught:
            child(script)()
        assert "ValueError: weights!" in str(caught.value)
        assert "line 99" in str(caught.value)
        assert len(str(caught.value).splitlines()) == job.LAST_LINES + 1

    def test_a_signal(self, child):
        with pytest.raises(EngineError, match="exit status -11; it said nothing"):
            child("import os; os.kill(os.getpid(), 11)")()

    def test_no_result(self, child):
        with pytest.raises(EngineError, match="ended without a result; it said nothing"):
            child("")()

    @pytest.mark.full
    @pytest.mark.parametrize(
        ("output", "sentence"),
        [
            ("x[:5]", r"output.npy has shape \(5, 4\) and dtype int32, expected 6 rows of int32"),
            ("x.astype(float)", "dtype float64, expected 6 rows of int32"),
            ("x[0]", r"shape \(4,\)"),
            ("np.array([None])", "no usable result: ValueError"),
        ],
    )
    def test_a_result_of_another_kind(self, child, output, sentence):
        with pytest.raises(EngineError, match=sentence):
            child(GOOD.format(output=output))()

    @pytest.mark.full
    def test_a_layer_that_is_missing(self, child):
        script = GOOD.format(output="x").replace('job["record"]', "[]")
        with pytest.raises(EngineError, match=r"layer_2.npy is missing; is there a layer of this number\?"):
            child(script)(record=[2])

    @pytest.mark.full
    def test_nonsense_at_the_end(self, child):
        with pytest.raises(EngineError, match="no usable result"):
            child(GOOD.format(output="x") + "(folder / 'done.json').write_text('[1]')")()


FAMILY = """
import multiprocessing as mp, multiprocessing.managers as managers, os, signal, sys, time
{deaf}
def sleep(name):
    time.sleep(100)
if __name__ == "__main__":
    mp.set_start_method("fork")
    manager = managers.SharedMemoryManager()
    manager.start()
    memory = manager.SharedMemory(100)
    for _ in range(3):
        mp.Process(target=sleep, args=(memory.name,)).start()
    print(memory.name, os.getpgid(0), flush=True)
    {then}
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm")
class TestNothingIsLeftBehind:
    @pytest.mark.parametrize("deaf", ["", DEAF])
    def test_by_a_child_that_hangs(self, child, deaf, monkeypatch):
        """With processes and shared memory of its own, whether it listens or not."""
        monkeypatch.setattr(process_group, "GRACE", 0.5)
        before, started = shared(), time.monotonic()
        with pytest.raises(
            EngineError,
            match=r"not done after 1.5 seconds and was stopped; give it more with timeout; the last it said",
        ) as caught:
            child(FAMILY.format(deaf=deaf, then="time.sleep(100)"))(timeout=1.5)
        self.assert_gone(str(caught.value), before, started)

    @pytest.mark.parametrize("then", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
    def test_by_a_child_that_dies_before_its_children(self, child, then):
        before, started = shared(), time.monotonic()
        with pytest.raises(EngineError, match="exit status") as caught:
            child(FAMILY.format(deaf="", then=then))()
        self.assert_gone(str(caught.value), before, started)

    def test_when_interrupted(self, child, monkeypatch):
        def interrupted(self, timeout):
            time.sleep(1)
            raise KeyboardInterrupt

        groups = []
        end = process_group.end
        monkeypatch.setattr(process_group, "end", lambda child: (groups.append(child.pid), end(child)))
        run_it = child(FAMILY.format(deaf="", then="time.sleep(100)"))
        monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_it()
        assert not process_group.members(groups[0])

    def assert_gone(self, message, before, started):
        (said,) = [line.split() for line in message.splitlines() if line.strip().startswith("psm_")]
        name, group = said
        assert not process_group.members(int(group))
        assert name not in shared()
        assert time.monotonic() - started < 20
        assert_nothing_new(before)

    def test_folder_in_tmp(self, child, monkeypatch, tmp_path):
        (tmp_path / "tmp").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        with pytest.raises(EngineError):
            child("raise ValueError")()
        child(GOOD.format(output="x"))()
        assert not any((tmp_path / "tmp").iterdir())

    def test_folders_of_the_dead(self, child, monkeypatch, tmp_path):
        """Their parent was killed before the child could see it; what is somebody else's stays."""
        place = tmp_path / "tmp"
        place.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(place))
        for name in (f".psu-deploy-lava-{'0' * 16}-unfinished", "somebody-else"):
            (place / name).mkdir()
            (place / name / "x.npy").touch()
            (place / name / "lock").touch()
        child(GOOD.format(output="x"))()
        assert [path.name for path in place.iterdir()] == ["somebody-else"]


@pytest.mark.parametrize("size", [0, 100])
def test_no_space_for_a_job(child, size):
    run_it = child(GOOD.format(output="x"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(ArtifactError, match=r"cannot write the job for Lava into .*: File too large; .*TMPDIR"):
            run_it()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestLava:
    def test_one_run(self, lava_python, tmp_path):
        """Only what is asked for is recorded; versions and times are told; nothing is left."""
        n, before = Numbers(0, 4), shared()
        layers = [layer(n.dense(5), n.lif(), 4), layer(n.dense(4), n.psu(), 4), layer(n.dense(4, 2), ir.Relay(), 2)]
        path = write(tmp_path / "a.net", layers, (5,))
        x = n.spikes(6, 1, 5)
        result = run_job(lava_python, path.read_bytes(), x[:, 0], steps=6, samples=1, record=[1], timeout=60)
        expected = run(layers, x)
        assert np.array_equal(result.output, expected[-1][:, 0])
        assert list(result.layers) == [1]
        assert np.array_equal(result.layers[1], expected[1][:, 0])
        assert result.versions["lava-nc"].startswith("0.10.")
        assert result.versions.keys() == {"lava-nc", "lava-dl", "numpy", "python"}
        assert 0 < result.start_seconds < 30
        assert 0 < result.run_seconds < 30
        assert_nothing_new(before)

    @pytest.mark.parametrize(
        ("damage", "sentence"),
        [
            ({"layer/1/neuron/threshold": np.full(4, 0.5)}, "layer/1/neuron/threshold has float64 numbers"),
            ({"layer/1/weight": np.zeros((4, 5), np.float32)}, "layer/1/weight has float32 numbers"),
            ({"layer/1/bias": np.full(4, 40000)}, "bias beyond 32767, the largest that Lava's LIF holds"),
            ({"layer/1/type": np.array([b"affine"])}, "layer/1 is of type 'affine'"),
        ],
    )
    def test_a_file_that_would_make_lava_hang(self, lava_python, tmp_path, damage, sentence):
        import h5py

        n = Numbers(0, 4)
        neuron = ir.Cuba(3000, 100) if "beyond" in sentence else n.psu()
        path = write(tmp_path / "a.net", [layer(n.dense(5), neuron, 4)], (5,))
        with h5py.File(path, "a") as file:
            for name, value in damage.items():
                del file[name]
                file[name] = value
        with pytest.raises(EngineError, match=sentence):
            run_job(
                lava_python,
                path.read_bytes(),
                np.zeros((2, 5), int),
                steps=2,
                samples=1,
                timeout=30,
            )

    def test_a_sample_that_is_too_long(self, lava_python, tmp_path):
        n = Numbers(0, 4)
        path = write(tmp_path / "a.net", [layer(n.dense(5), n.psu(n.sums(3, 3)), 4)], (5,))
        with pytest.raises(EngineError, match="synapse 0, integrate, is defined for 3 steps, a sample has 4"):
            run_job(
                lava_python,
                path.read_bytes(),
                np.zeros((4, 5), int),
                steps=4,
                samples=1,
                timeout=20,
            )

    def test_an_actor_that_dies(self, lava_python, tmp_path):
        """Inside Lava, after everything has started."""
        n, before = Numbers(0, 4), shared()
        levels = ir.Levels(np.full((2, 4), -(10**6)), np.array([1]))
        path = write(tmp_path / "a.net", [layer(n.dense(5), n.psu(estimator=levels), 4)], (5,))
        with pytest.raises(EngineError, match="IndexError"):
            run_job(
                lava_python,
                path.read_bytes(),
                np.zeros((4, 5), int),
                steps=4,
                samples=1,
                timeout=20,
            )
        assert_nothing_new(before)

    def test_stopped_in_the_middle(self, lava_python, tmp_path):
        """Minutes of work, a few seconds of patience."""
        n, before = Numbers(0, 4), shared()
        path = write(tmp_path / "a.net", [layer(n.dense(5), n.psu(), 4)], (5,))
        x = np.zeros((200_000, 5), np.int32)
        with pytest.raises(EngineError, match="not done after 4 seconds"):
            run_job(lava_python, path.read_bytes(), x, steps=100, samples=2000, timeout=4)
        assert_nothing_new(before)


def test_signal_of_the_system_is_not_swallowed():
    """A group that is gone is no fault."""
    child = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    child.wait()
    process_group.end(child)
    process_group._signal(child.pid, signal.SIGTERM)
    assert os.getpid()


class TestItsParentDies:
    """Then nobody waits for it any more, and nobody would end it."""

    @pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
    def test_it_ends_and_its_folder_goes(self, lava_python, tmp_path, end):
        n, before = Numbers(0, 4), shared()
        path = write(tmp_path / "a.net", [layer(n.dense(5), n.psu(), 4)], (5,))
        script = (
            "import sys, tempfile, numpy as np; from pathlib import Path\n"
            "from psu_deploy.exporters.lava.job import run_job\n"
            "tempfile.tempdir = sys.argv[3]\n"
            "x = np.zeros((200_000, 5), int)\n"
            "run_job(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), x, steps=100,"
            " samples=2000, timeout=200)\n"
        )
        folder = tmp_path / "jobs"
        folder.mkdir()
        parent = subprocess.Popen([sys.executable, "-c", script, str(lava_python), str(path), str(folder)])
        wait_for(lambda: len(shared() - before) > 5)  # Lava runs
        parent.send_signal(end)
        parent.wait()
        wait_for(lambda: not any(folder.iterdir()))
        wait_for(lambda: not running(folder))
        assert_nothing_new(before)


def running(folder):
    """Processes that were started with this folder."""
    found = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True)
    return found.stdout.split()


def wait_for(condition, seconds=40.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
