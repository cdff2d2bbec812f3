"""Several threads, forked processes, and a place that cannot be written to."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import psu_deploy
from psu_deploy.nn.kernels import threads
from psu_deploy.nn.neurons import PSU
from tests.nn.kernels.neurons import ALL, currents, learned, trained


@pytest.fixture
def several():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("width", [1, 63, 65, 300, 2100])
@pytest.mark.parametrize("name", ["psu", "rpsu_exponentials", "PLIF-soft-True-False"])
def test_shared_out_among_threads(name, width, monkeypatch, several):
    """The same spikes and gradients, whatever the number of neurons; what is summed over them, but for rounding."""
    monkeypatch.setattr(threads, "PER_THREAD", 1)
    neuron, x, g = learned(ALL[name](6)), currents(6, 1, width), currents(6, 1, width, seed=1)
    spikes, gradients = trained(neuron, x, g)
    torch.set_num_threads(1)
    alone, expected = trained(neuron, x, g)
    assert torch.equal(spikes, alone)
    assert torch.equal(gradients["x"], expected["x"])
    for parameter in gradients:
        torch.testing.assert_close(gradients[parameter], expected[parameter], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("columns", "parts", "most"), [(1, 4, 1024), (64, 2, 64), (1000, 3, 64), (5000, 7, 1024)])
def test_every_column_once(columns, parts, most, monkeypatch, several):
    monkeypatch.setattr(torch, "get_num_threads", lambda: parts)
    seen = []
    threads.share_out(columns, 1 << 30, most, lambda first, last, block: seen.append((first, last, block)))
    assert sorted(c for first, last, _ in seen for c in range(first, last)) == list(range(columns))
    assert len(seen) <= parts
    assert all(block <= most and block % threads.GRAIN == first % block == 0 for first, _, block in seen)


def test_what_fails_in_a_thread_is_heard(monkeypatch, several):
    def fail(first, last, block):
        if first:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.share_out(1000, 1 << 30, 64, fail)


def in_a_child(queue):
    spikes, gradients = trained(PSU(), torch.ones(40, 8, 512), torch.ones(40, 8, 512))
    queue.put((float(spikes.detach().sum()), float(gradients["x"].sum())))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    """As the workers of a DataLoader are: after the kernels ran here, in several threads.

    torch itself stays on one: with several, OpenMP does not come through a fork.
    """
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: 3)
    here = trained(PSU(), torch.ones(40, 8, 512), torch.ones(40, 8, 512))
    assert threads._pool is not None
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=in_a_child, args=(queue,), daemon=True)
    child.start()
    found = queue.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    assert found == (float(here[0].detach().sum()), float(here[1]["x"].sum()))


@pytest.mark.nightly
@pytest.mark.parametrize("home", [True, False])
def test_where_nothing_can_be_written(tmp_path, home):
    """Neither beside the source nor, without a home, anywhere: kernels are then compiled in every process."""
    package = tmp_path / "site" / "psu_deploy"
    shutil.copytree(
        Path(psu_deploy.__file__).parent, package, symlinks=False, ignore=shutil.ignore_patterns("__pycache__")
    )
    for folder, _, _ in os.walk(tmp_path / "site"):
        Path(folder).chmod(stat.S_IREAD | stat.S_IEXEC)
    script = "import torch, psu_deploy as p; print(p.__file__, p.PSU()(torch.ones(4, 2, 1024)).shape)"
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "HOME": str(tmp_path if home else "/dev/null")}
    environment.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert str(package) in result.stdout
    assert "[4, 2, 1024]" in result.stdout, result.stderr
