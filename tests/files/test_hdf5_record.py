"""A rehearsal is for files that nobody has seen: what was written here, or came through, is read at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.errors import ArtifactError
from psu_deploy.files.cache import cache_folder
from psu_deploy.files.hdf5 import read, read_groups, record, vouch_for
from psu_deploy.machine import Node, StateMachine, ops

pytestmark = pytest.mark.full  # processes of their own

GROUPS = ("a", "b")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PSU_DEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(record, "_here", set())
    return tmp_path / "cache" / "hdf5"


class Rehearsals(list[list[str]]):
    """Everything that was started; or would have been, for most of these files are known to be harmless."""

    real = False


@pytest.fixture
def rehearsals(cache, monkeypatch):
    started, run = Rehearsals(), subprocess.run

    def rehearse(command, **given):
        started.append(command)
        return run(command, **given) if started.real else subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(read.subprocess, "run", rehearse)
    return started


@pytest.fixture
def new_process(monkeypatch):
    """Forget what this process has seen."""
    return lambda: monkeypatch.setattr(record, "_here", set())


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "file.h5")


def write(path, groups=GROUPS, number=1):
    with h5py.File(path, "w") as h5:
        for group in groups:
            h5[f"{group}/number"] = np.int8(number)
    return path


def load(path, groups=GROUPS):
    return read_groups(path, groups, "ours", "nir")


def test_a_file_is_rehearsed_once(file, rehearsals, cache, new_process):
    rehearsals.real = True
    for _ in range(3):
        assert load(file) == {"a": {"number": 1}, "b": {"number": 1}}
        new_process()
    assert len(rehearsals) == 1
    assert [entry.stat().st_size for entry in cache.iterdir()] == [0]
    assert cache.stat().st_mode & 0o777 == 0o700


def test_another_place_is_the_same_file(file, tmp_path, rehearsals):
    load(file)
    (tmp_path / "other.h5").write_bytes(file.read_bytes())
    load(tmp_path / "other.h5")
    assert len(rehearsals) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda file, patch: file.write_bytes(file.read_bytes() + b"\0"),
        lambda file, patch: write(file, number=2),
        lambda file, patch: patch.setenv("PSU_DEPLOY_MAX_MEMORY", str(1 << 29)),
        lambda file, patch: patch.setattr(record, "version", lambda package: "another"),
    ],
    ids=["one byte more", "another number", "less memory", "another HDF5"],
)
def test_what_is_not_the_same_is_rehearsed_again(file, rehearsals, monkeypatch, change):
    load(file)
    change(file, monkeypatch)
    load(file)
    assert len(rehearsals) == 2


def test_of_other_groups_nothing_is_known(file, rehearsals):
    load(file, ("a",))
    load(file, ("b",))
    assert len(rehearsals) == 2


def test_what_is_refused_is_refused_again(tmp_path, rehearsals, cache):
    rehearsals.real = True
    (tmp_path / "file.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for _ in range(2):
        with pytest.raises(ArtifactError, match="truncated, damaged or not an HDF5 file"):
            load(tmp_path / "file.h5")
    assert len(rehearsals) == 2
    assert not cache.exists()


def test_a_link_that_leads_nowhere_yet(tmp_path, rehearsals):
    """It is not passed over as a group that is missing: the file it names may come later."""
    rehearsals.real = True
    path = write(tmp_path / "file.h5", ("a",))
    with h5py.File(path, "a") as h5:
        h5["b"] = h5py.ExternalLink("hostile.h5", "/b")
    for _ in range(2):
        with pytest.raises(ArtifactError, match="//b points elsewhere"):
            load(path)
    assert len(rehearsals) == 2


def test_a_dataset_is_no_group(tmp_path, rehearsals):
    rehearsals.real = True
    path = write(tmp_path / "file.h5", ("a",))
    with h5py.File(path, "a") as h5:
        h5["b"] = np.zeros(3)
    with pytest.raises(ArtifactError, match="'/b' is a Dataset, expected a group"):
        load(path)
    with pytest.raises(ArtifactError, match="not ours: expected a group 'b'"):
        load(path, ("b",))


class TestWhereNoRecordCanBeKept:
    """It is rehearsed in every process, and nobody is told."""

    def twice(self, file, rehearsals, new_process):
        for _ in range(2):
            load(file)
            new_process()
        assert len(rehearsals) == 2

    def test_because_nobody_wants_one(self, file, rehearsals, new_process, monkeypatch):
        monkeypatch.setenv("PSU_DEPLOY_CACHE", "")
        self.twice(file, rehearsals, new_process)

    def test_because_something_else_lies_there(self, file, rehearsals, new_process, cache):
        cache.parent.write_text("a file")
        self.twice(file, rehearsals, new_process)

    @pytest.mark.parametrize("mode", [0o770, 0o702])
    def test_because_others_may_write_there(self, file, rehearsals, new_process, cache, mode):
        load(file)
        new_process()
        cache.chmod(mode)
        load(file)
        assert len(rehearsals) == 2
        new_process()
        cache.chmod(0o700)
        load(file)
        assert len(rehearsals) == 2

    def test_because_it_is_somebody_elses(self, file, rehearsals, new_process, monkeypatch):
        load(file)
        new_process()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        load(file)
        assert len(rehearsals) == 2

    def test_because_it_is_a_link(self, file, rehearsals, new_process, cache, tmp_path):
        load(file)
        new_process()
        cache.rename(tmp_path / "elsewhere")
        cache.symlink_to(tmp_path / "elsewhere")
        load(file)
        assert len(rehearsals) == 2

    def test_because_the_disk_takes_nothing(self, file, rehearsals, new_process, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "open", full)
        self.twice(file, rehearsals, new_process)

    def test_because_the_file_is_too_large(self, file, rehearsals, new_process, monkeypatch):
        monkeypatch.setattr(record, "LARGEST", 10)
        self.twice(file, rehearsals, new_process)


def test_the_record_stays_small(file, cache, monkeypatch, new_process):
    """The older half goes, and what was used last is the youngest."""
    monkeypatch.setattr(record, "MOST", 10)
    for number in range(10):
        record.remember(f"{number:x}")
        os.utime(cache / f"{number:x}", (number, number))
    new_process()
    assert record.is_known("0")
    record.remember("new")
    assert sorted(entry.name for entry in cache.iterdir()) == ["0", "6", "7", "8", "9", "new"]
    assert len(record._here) <= 10


@pytest.mark.parametrize("given", [{"XDG_CACHE_HOME": "{}/xdg"}, {"HOME": "{}", "XDG_CACHE_HOME": "relative"}])
def test_where_it_lies(tmp_path, monkeypatch, given):
    monkeypatch.delenv("PSU_DEPLOY_CACHE")
    for name, value in given.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    below = "xdg" if "HOME" not in given else ".cache"
    assert cache_folder("hdf5") == tmp_path / below / "psu-deploy" / "hdf5"


@pytest.mark.parametrize("target", ["lava", "nir"])
def test_what_was_exported_here_is_not_rehearsed(tmp_path, rehearsals, cache, target):
    """Neither by the exporter, nor in the process that loads it; what somebody changed is."""
    neuron = ops.SpikingNeuron(ops.Leak(0.5, 0.6), None, ops.Sigmoid(), None, 0.4, ">=")
    machine = StateMachine((Node("a", ops.Linear(np.eye(3)), ("x",)), Node("b", neuron, ("a",))), (3,))
    x = np.ones((4, 1, 3), np.float32)
    options, suffix = ({"calibration": x}, ".net") if target == "lava" else ({}, ".nir")
    path = psu.export(machine, tmp_path / f"net{suffix}", target=target, **options).path
    record._here.clear()
    simulator = "integer" if target == "lava" else None
    runner = psu.load(path, simulator=simulator)
    assert psu.verify(machine, runner, x).ok
    assert not rehearsals
    path.write_bytes(path.read_bytes() + b"\0")
    psu.load(path, simulator=simulator)
    assert len(rehearsals) == 1


def test_of_its_own_process_in_another(file, cache):
    """On disk, for real."""
    vouch_for(file, GROUPS)
    script = (
        "import sys; from pathlib import Path; from psu_deploy.files.hdf5 import read, read_groups\n"
        "read._rehearse = None\n"
        "read_groups(Path(sys.argv[1]), ('a', 'b'), 'ours', 'nir')"
    )
    root = Path(psu.__file__).parents[1]
    subprocess.run([sys.executable, "-c", script, str(file)], check=True, cwd=root)
