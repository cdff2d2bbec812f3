"""Files appear whole, with the rights that every other program's files have, or not at all."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

import pytest

from psu_deploy.errors import ArtifactError
from psu_deploy.machine.files import atomic_path
from tests.exporters.onnx.machines import MACHINES


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o000, 0o666)])
def test_a_file_has_the_mode_that_the_umask_gives(mask, mode, tmp_path):
    """A temporary file is its owner's alone, and would stay so: nobody else could read what was saved."""
    with umask(mask):
        with atomic_path(tmp_path / "deep" / "a.txt") as path:
            path.write_text("whole")
        assert os.umask(mask) == mask, "the umask is as it was"
        MACHINES["linear"].save(tmp_path / "net.psm")
    for name in ("deep/a.txt", "net.psm"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
    assert (tmp_path / "deep" / "a.txt").read_text() == "whole"


def test_until_the_end_the_old_file_is_there(tmp_path):
    target = tmp_path / "net.onnx"
    target.write_text("old")
    with atomic_path(target) as path:
        assert (path.parent, path.suffix) == (tmp_path, ".onnx")
        path.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_leaves_nothing(tmp_path):
    def interrupted():
        with atomic_path(tmp_path / "net.onnx") as path:
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ArtifactError, match="it is a folder; name a file in it"), atomic_path(tmp_path):
        pytest.fail("nothing can be written")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot write .*file/net\.onnx"), atomic_path(tmp_path / "file/net.onnx"):
        pytest.fail("nothing can be written")
