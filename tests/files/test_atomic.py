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
from psu_deploy import files
from psu_deploy.errors import ArtifactError
from psu_deploy.files import atomic, temporaries
from psu_deploy.files.atomic import atomic_path, write_whole
from psu_deploy.files.temporaries import is_temporary, temporary_folder

ALONE = f"""
import sys
from types import ModuleType
for name, path in {[(module.__name__, list(module.__path__)) for module in (psu_deploy, files)]}:
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = path
"""
"""The package without what its rooms import, which takes seconds."""

WRITER = """
from psu_deploy.files.atomic import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
    temporary.write_bytes(b"theirs")
"""
FOLDER = """
from pathlib import Path
from psu_deploy.files.temporaries import temporary_folder
with temporary_folder(Path(sys.argv[1]), "ours") as folder:
    (folder / "part").mkdir()
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
    @pytest.mark.full
    def test_by_a_killed_writer_goes_with_the_next_write(self, tmp_path, name):
        Other(WRITER, tmp_path / name).kill()
        (left,) = tmp_path.iterdir()
        assert is_temporary(left)
        assert names(left) == sorted(["lock", name])
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

    @pytest.mark.parametrize(
        "name",
        [".net.onnx-settings", f".net.onnx-{'0' * 16}", f"net.onnx-{'0' * 16}-unfinished", ".net.onnx-unfinished"],
    )
    def test_what_is_somebody_elses_stays(self, tmp_path, name):
        (tmp_path / name).mkdir()
        write_whole(tmp_path / "net.onnx", b"mine")
        assert names(tmp_path) == sorted([name, "net.onnx"])
        assert not is_temporary(tmp_path / name)

    def test_what_only_looks_like_a_leftover_stays(self, tmp_path):
        """Of such a name, but a file, a link, without a lock, or with one that is a pipe: nothing of ours."""
        folders = [tmp_path / f".net.onnx-{digit * 16}-unfinished" for digit in "0123"]
        (tmp_path / "letters").mkdir()
        for folder in (tmp_path / "letters", *folders[2:]):
            folder.mkdir(exist_ok=True)
            (folder / "letter").write_text("dear")
        (tmp_path / "letters" / "lock").touch()
        folders[0].write_text("dear")
        folders[1].symlink_to(tmp_path / "letters")
        os.mkfifo(folders[3] / "lock")
        before = [*names(tmp_path), "net.onnx"]
        write_whole(tmp_path / "net.onnx", b"mine")
        assert names(tmp_path) == sorted(before)
        for folder in (tmp_path / "letters", *folders[1:]):
            assert (folder / "letter").read_text() == "dear"

    def test_whoever_is_killed_while_he_clears_away(self, tmp_path, monkeypatch):
        """Before the lock is there, and after it is gone, the folder is empty."""
        for digit in "01":
            (tmp_path / f".net.onnx-{digit * 16}-unfinished").mkdir()
        (tmp_path / f".net.onnx-{'0' * 16}-unfinished" / "lock").touch()
        write_whole(tmp_path / "net.onnx", b"mine")
        assert names(tmp_path) == ["net.onnx"]

    @pytest.mark.parametrize("when", ["before its lock is there", "before it is locked"])
    def test_one_that_was_taken_for_a_leftover(self, tmp_path, monkeypatch, when):
        """Another process comes in between."""
        taken = []

        def come_between() -> None:
            if not taken:
                taken.extend(tmp_path.iterdir())
                temporaries.remove_leftovers(tmp_path, "net.onnx")

        lock, open_ = temporaries._lock, os.open

        def locked(handle, wait):
            if wait:
                come_between()
            return lock(handle, wait)

        def opened(path, flags, *mode):
            if flags & os.O_CREAT:
                come_between()
            return open_(path, flags, *mode)

        name, replacement = ("open", opened) if when == "before its lock is there" else ("_lock", locked)
        monkeypatch.setattr(*((os, name) if name == "open" else (temporaries, name)), replacement)
        with atomic_path(tmp_path / "net.onnx") as temporary:
            assert taken
            assert not taken[0].exists()
            assert temporary.exists()
            temporary.write_bytes(b"mine")
        assert names(tmp_path) == ["net.onnx"]

    @pytest.mark.parametrize("where", ["mkdir", "open", "_lock"])
    def test_by_an_interrupt_at_the_very_beginning_is_nothing(self, tmp_path, monkeypatch, where):
        owner = {"mkdir": Path, "open": os, "_lock": temporaries}[where]
        step = getattr(owner, where)

        def interrupted(*arguments, **options):
            step(*arguments, **options)
            if not (where == "mkdir" and arguments[0] == tmp_path):
                raise KeyboardInterrupt

        monkeypatch.setattr(owner, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_whole(tmp_path / "net.onnx", b"mine")
        monkeypatch.undo()
        assert names(tmp_path) == []

    def test_where_there_are_no_locks_nothing_is_removed(self, tmp_path, monkeypatch):
        Other(WRITER, tmp_path / "net.onnx").kill()
        monkeypatch.setattr(temporaries, "_lock", lambda handle, wait: False)
        write_whole(tmp_path / "net.onnx", b"mine")
        assert len(names(tmp_path)) == 2
        assert (tmp_path / "net.onnx").read_bytes() == b"mine"


class TestFolders:
    def test_of_the_dead_go_and_of_the_living_stay(self, tmp_path):
        (tmp_path / "theirs").mkdir()
        dead = Other(FOLDER, tmp_path)
        (left,) = [path for path in tmp_path.iterdir() if path.name.startswith(".ours-")]
        alive = Other(FOLDER, tmp_path)
        assert left.is_dir()
        dead.kill()
        with temporary_folder(tmp_path, "ours") as folder:
            assert not left.exists()
            assert len(names(tmp_path)) == 3
            (folder / "file").touch()
        assert len(names(tmp_path)) == 2
        alive.go_on()
        assert names(tmp_path) == ["theirs"]


def test_hdf5_can_write_and_read_there(tmp_path):
    """It locks what it opens, and would not open what another lock is on."""
    h5py = pytest.importorskip("h5py")
    with atomic_path(tmp_path / "net.h5") as temporary:
        with h5py.File(temporary, "w") as file:
            file["x"] = 1
        with h5py.File(temporary, "r") as file:
            assert file["x"][()] == 1
    assert names(tmp_path) == ["net.h5"]


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
        monkeypatch.setattr(*((Path, where) if where == "write_bytes" else (atomic.os, where)), full)
        kept = "nothing was written" if before is None else "the file that was there is as it was"
        with pytest.raises(ArtifactError, match=f"cannot write .*net: {os.strerror(number)}; {kept}; .*{remedy}"):
            write_whole(tmp_path / "net", b"new")
        assert names(tmp_path) == ([] if before is None else ["net"])
        assert before is None or (tmp_path / "net").read_bytes() == before

    @pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
    def test_the_mode_is_what_the_umask_makes_it(self, tmp_path, mask):
        before = os.umask(mask)
        try:
            write_whole(tmp_path / "net", b"x")
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
