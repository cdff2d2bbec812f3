"""The files of an export are all of one export, wherever its writer was killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.files import temporaries
from psu_deploy.files.temporaries import is_temporary
from psu_deploy.machine import ops
from tests.exporters.c.integers.made import machine, x
from tests.exporters.c.test_files import MACHINE, change, refused
from tests.zoo import MACHINES

OTHER = MACHINES["psu neuron"]

OPTIONS = {"float32": {}, "int8": {"numerics": "int8", "calibration": x()}}


class Killed(BaseException):
    """As if there were no process any more."""


def killed(monkeypatch, renames, write):
    """Run until so many files were renamed; nobody clears away."""
    replace, done = Path.replace, []

    def counted(self, target):
        if Path(target).suffix in (".so", ".sha256"):  # compiled to be looked at, and kept in the cache
            return replace(self, target)
        if len(done) == renames:
            raise Killed
        done.append(target)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted)
        patch.setattr(temporaries, "_clear", lambda folder: None)
        with pytest.raises(Killed):
            write()


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def unfinished(folder):
    return [path for path in folder.iterdir() if is_temporary(path)]


@pytest.fixture(scope="module", params=OPTIONS)
def two(request, tmp_path_factory):
    """How to write two exports, and their files."""
    folder = tmp_path_factory.mktemp("two")
    machines = (
        [machine(), machine(ops.Linear(np.ones((2, 3)), np.zeros(2)))] if request.param == "int8" else [MACHINE, OTHER]
    )

    def write(which, path):
        return psu.export(machines[which], path, target="c", **OPTIONS[request.param])

    return write, [files(write(which, folder / str(which) / "net.c").path.parent) for which in (0, 1)]


@pytest.mark.full
@pytest.mark.rows(6)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("renames", range(5))
def test_a_killed_writer(two, tmp_path, monkeypatch, renames, first):
    """Before `net.c` is renamed all is as it was; from then on all is new for who opens it."""
    write, (before, after) = two
    if not first:
        write(0, tmp_path / "net.c")
    killed(monkeypatch, min(renames, len(after) - 1), lambda: write(1, tmp_path / "net.c"))
    assert len(unfinished(tmp_path)) == 1
    if not renames:
        assert files(tmp_path) == ({} if first else before)
        return
    assert files(tmp_path) != after
    psu.load(tmp_path / "net.c", compiled=False)
    assert files(tmp_path) == after
    assert not unfinished(tmp_path)


@pytest.mark.full
def test_a_killed_writer_and_one_that_fails(two, tmp_path, monkeypatch):
    """The second one removes what the first one left: not before it is in place."""
    write, (_, after) = two
    write(0, tmp_path / "net.c")
    killed(monkeypatch, 2, lambda: write(1, tmp_path / "net.c"))
    monkeypatch.setenv("CC", "false")
    with pytest.raises(psu.EngineError):
        write(0, tmp_path / "net.c")
    assert files(tmp_path) == after


@pytest.mark.full
def test_what_a_killed_writer_left_of_something_else(tmp_path, monkeypatch):
    """Nothing of it gets among files that were edited."""
    path = psu.export(MACHINE, tmp_path / "net.c", target="c").path
    killed(monkeypatch, 0, lambda: psu.export(OTHER, path, target="c"))
    (left,) = unfinished(tmp_path)
    (left / "net.c").unlink()  # whoever clears away may be killed too
    change(tmp_path / "net.h", "/*", "/* !")
    before = files(tmp_path)
    with refused("net.h is not what was written together with net.c"):
        psu.load(path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["net.h", "other.py"])
def test_what_a_killed_writer_left_has_been_changed(tmp_path, monkeypatch, name):
    """Every file is looked at before the first one is moved; the numbers alone say nothing of the others."""
    path = psu.export(MACHINE, tmp_path / "net.c", target="c").path
    killed(monkeypatch, 1, lambda: psu.export(OTHER, path, target="c"))
    (left,) = unfinished(tmp_path)
    with (left / name).open("a") as file:
        file.write("/* ! */\n")
    before = files(tmp_path)
    with refused("net.h is not what was written together with net.c"):
        psu.load(path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["README.md", "README.h"])
def test_a_file_of_somebody_else(tmp_path, name):
    (tmp_path / name).write_text("# What this is about\n")
    with refused(f"an export to {tmp_path / 'README.c'} writes {name} as well, and there is one", psu.InputError):
        psu.export(MACHINE, tmp_path / "README.c", target="c")
    assert files(tmp_path) == {name: b"# What this is about\n"}


@pytest.mark.full
@pytest.mark.parametrize("name", ["net.md", "net.h"])
def test_a_folder_in_the_place_of_a_file(tmp_path, name):
    (tmp_path / name).mkdir()
    with refused(f"cannot write {tmp_path / name}: it is a folder"):
        psu.export(MACHINE, tmp_path / "net.c", target="c")
    assert not files(tmp_path)
