"""Whole or not at all: what a writer leaves, alive, dead, or beside another one."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import psu_deploy
from psu_deploy import machine
from psu_deploy.errors import ArtifactError
from psu_deploy.machine import files, temporaries
from psu_deploy.machine.files import atomic_path, write_whole
from psu_deploy.machine.temporaries import is_temporary, temporary_folder

ALONE = f"""
import sys
from types import ModuleType
for name, path in {[(module.__name__, list(module.__path__)) for module in (psu_deploy, machine)]}:
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = path
"""
"""The package without what its rooms import, which takes seconds."""

WRITER = """
from psu_deploy.machine.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
    temporary.write_bytes(b"theirs")
"""
FOLDER = """
import tempfile
tempfile.tempdir = sys.argv[1]
from psu_deploy.machine.temporaries import temporary_folder
with temporary_folder("ours-") as folder:
    (folder / "big").write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


class Other:
    """A process in the middle of its writing."""

    def __init__(self, script: str, path: Path) -> None:
        command = [sys.executable, "-c", ALONE + script, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"writing\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def go_on(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWhatIsLeft:
    @pytest.mark.parametrize(
        "name", ["net.onnx", "net", ".net", "n\N{LATIN SMALL LETTER E WITH ACUTE}t z.nir", "n" * 255]
    )
    def test_by_a_killed_writer_goes_with_the_next_write(self, tmp_path, name):
        Other(WRITER, tmp_path / name).kill()
        (left,) = tmp_path.iterdir()
        assert is_temporary(left)
        assert left.suffix == Path(name).suffix
        write_whole(tmp_path / name, b"mine")
        assert names(tmp_path) == [name]
        assert (tmp_path / name).read_bytes() == b"mine"

    def test_by_a_living_writer_stays_and_the_last_one_wins(self, tmp_path):
        other = Other(WRITER, tmp_path / "net.onnx")
        write_whole(tmp_path / "net.onnx", b"mine")
        assert len(names(tmp_path)) == 2
        assert (tmp_path / "net.onnx").read_bytes() == b"mine"
        other.go_on()
        assert names(tmp_path) == ["net.onnx"]
        assert (tmp_path / "net.onnx").read_bytes() == b"theirs"

    def test_by_a_killed_writer_of_another_file_stays(self, tmp_path):
        Other(WRITER, tmp_path / "net.onnx").kill()
        (left,) = names(tmp_path)
        for name in ("net.nir", "net", "nets.onnx", "t.onnx"):
            write_whole(tmp_path / name, b"mine")
        assert left in names(tmp_path)

    @pytest.mark.parametrize("name", [".net-settings.onnx", ".net-0123456789abcdef.onnx", ".net-unfinished.onnx"])
    def test_a_file_of_somebody_else_stays(self, tmp_path, name):
        (tmp_path / name).write_text("dear")
        write_whole(tmp_path / "net.onnx", b"mine")
        assert names(tmp_path) == sorted([name, "net.onnx"])
        assert not is_temporary(tmp_path / name)

    def test_what_only_looks_like_a_leftover_stays(self, tmp_path):
        """Links, pipes and folders of such a name: nothing of ours, and nothing to wait for."""
        (tmp_path / "letters").write_text("dear")
        (tmp_path / f".net-{'0' * 16}-unfinished.onnx").symlink_to(tmp_path / "letters")
        os.mkfifo(tmp_path / f".net-{'1' * 16}-unfinished.onnx")
        (tmp_path / f".net-{'2' * 16}-unfinished.onnx").mkdir()
        before = names(tmp_path)
        write_whole(tmp_path / "net.onnx", b"mine")
        assert names(tmp_path) == sorted([*before, "net.onnx"])
        assert (tmp_path / "letters").read_text() == "dear"

    def test_one_that_was_taken_for_a_leftover_before_its_lock_was_there(self, tmp_path, monkeypatch):
        lock, taken = temporaries._lock, []

        def late(handle, wait):
            if wait and not taken:  # another writer comes between the file and its lock
                taken.extend(tmp_path.iterdir())
                temporaries.remove_leftovers(tmp_path / "net.onnx")
            return lock(handle, wait)

        monkeypatch.setattr(temporaries, "_lock", late)
        with atomic_path(tmp_path / "net.onnx") as temporary:
            assert taken
            assert not taken[0].exists()
            assert temporary.exists()
            temporary.write_bytes(b"mine")
        assert names(tmp_path) == ["net.onnx"]

    def test_where_there_are_no_locks_nothing_is_removed(self, tmp_path, monkeypatch):
        Other(WRITER, tmp_path / "net.onnx").kill()
        monkeypatch.setattr(temporaries, "_lock", lambda handle, wait: False)
        write_whole(tmp_path / "net.onnx", b"mine")
        assert len(names(tmp_path)) == 2
        assert (tmp_path / "net.onnx").read_bytes() == b"mine"


class TestFolders:
    def test_of_the_dead_go_and_of_the_living_stay(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        (tmp_path / "theirs-0").mkdir()
        dead = Other(FOLDER, tmp_path)
        (left,) = [path for path in tmp_path.iterdir() if path.name.startswith("ours-")]
        alive = Other(FOLDER, tmp_path)
        assert left.is_dir()
        dead.kill()
        with temporary_folder("ours-") as folder:
            assert not left.exists()
            assert len(names(tmp_path)) == 3
            (folder / "file").touch()
        assert len(names(tmp_path)) == 2
        alive.go_on()
        assert names(tmp_path) == ["theirs-0"]

    def test_one_that_was_taken_for_a_leftover_before_its_lock_was_there(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        lock, taken = temporaries._lock, []

        def late(handle, wait):
            if wait and not taken:
                taken.extend(tmp_path.iterdir())
                taken[0].rmdir()
            return lock(handle, wait)

        monkeypatch.setattr(temporaries, "_lock", late)
        with temporary_folder("ours-") as folder:
            assert folder.is_dir()
            assert folder not in taken
        assert names(tmp_path) == []


class TestWriting:
    def test_two_at_once(self, tmp_path):
        """Whatever is there at any moment is one of the two, whole."""
        contents = [bytes([byte]) * 300_000 for byte in b"ab"]
        write_whole(tmp_path / "net", contents[0])

        def write(content: bytes) -> None:
            for _ in range(20):
                write_whole(tmp_path / "net", content)

        writers = [threading.Thread(target=write, args=(content,)) for content in contents]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            assert (tmp_path / "net").read_bytes() in contents
        assert names(tmp_path) == ["net"]

    def test_flushed_before_it_is_renamed_and_its_folder_after(self, tmp_path, monkeypatch):
        calls, fsync, replace = [], os.fsync, Path.replace

        def flush(handle):
            calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"file of {os.fstat(handle).st_size}")
            fsync(handle)

        def rename(path, target):
            calls.append("rename")
            return replace(path, target)

        monkeypatch.setattr(os, "fsync", flush)
        monkeypatch.setattr(Path, "replace", rename)
        write_whole(tmp_path / "net", b"four")
        assert calls == ["file of 4", "rename", "folder"]

    def test_a_folder_that_cannot_be_flushed_is_no_reason_to_fail(self, tmp_path, monkeypatch):
        fsync = os.fsync

        def flush(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")
            fsync(handle)

        monkeypatch.setattr(os, "fsync", flush)
        write_whole(tmp_path / "net", b"four")
        assert names(tmp_path) == ["net"]

    @pytest.mark.parametrize("where", ["write_bytes", "fsync"])
    @pytest.mark.parametrize(
        ("number", "remedy"),
        [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some of your quota"), (errno.EFBIG, "ulimit -f")],
    )
    @pytest.mark.parametrize("before", [None, b"old"])
    def test_no_space(self, tmp_path, monkeypatch, number, remedy, before, where):
        def full(*_):
            raise OSError(number, os.strerror(number))

        if before is not None:
            (tmp_path / "net").write_bytes(before)
        monkeypatch.setattr(*((Path, where) if where == "write_bytes" else (files.os, where)), full)
        kept = "nothing was written" if before is None else "the file that was there is as it was"
        with pytest.raises(ArtifactError, match=f"cannot write .*net: {os.strerror(number)}; {kept}; .*{remedy}"):
            write_whole(tmp_path / "net", b"new")
        assert names(tmp_path) == ([] if before is None else ["net"])
        assert before is None or (tmp_path / "net").read_bytes() == before

    @pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
    def test_the_mode_is_what_the_umask_makes_it(self, tmp_path, mask):
        before = os.umask(mask)
        try:
            write_whole(tmp_path / "net", b"")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "net").stat().st_mode) == 0o666 & ~mask

    def test_a_link_is_replaced_and_what_it_named_stays(self, tmp_path):
        (tmp_path / "old").write_bytes(b"old")
        (tmp_path / "net").symlink_to(tmp_path / "old")
        write_whole(tmp_path / "net", b"new")
        assert not (tmp_path / "net").is_symlink()
        assert (tmp_path / "old").read_bytes() == b"old"

    def test_a_folder_that_may_not_be_listed(self, tmp_path, monkeypatch):
        def closed(*_):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(temporaries.os, "scandir", closed)
        write_whole(tmp_path / "net", b"new")
        assert (tmp_path / "net").read_bytes() == b"new"
