"""Frames are kept, and made again when anything they depend on is another."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from rich.console import Console

from psu_deploy.errors import ArtifactError
from psu_deploy.training.data import cache
from psu_deploy.training.data.cache import Transform, kept

TRANSFORM = Transform("toy-train", {"steps": 2, "binning": "paper"}, (2, 3), np.uint8)


class Maker:
    """Makes samples, and counts how often."""

    def __init__(self, seed: int = 0, count: int = 5) -> None:
        self.samples = np.random.default_rng(seed).integers(0, 256, (count, 2, 3), np.uint8)
        self.calls = 0

    def __call__(self) -> Iterator[np.ndarray]:
        self.calls += 1
        yield from self.samples


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSU_DEPLOY_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "data.bin"
    path.write_bytes(b"recordings")
    return path


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "frames").iterdir())


def test_what_is_kept_is_not_made_again(source: Path, tmp_path: Path) -> None:
    make = Maker()
    for _ in range(3):
        array = kept(TRANSFORM, [source], 5, make)
        assert isinstance(array, np.memmap)
        assert np.array_equal(array, make.samples)
    assert make.calls == 1
    assert np.array_equal(np.load(files(tmp_path)[0]), make.samples)


@pytest.mark.parametrize("hashed", [1 << 30, 0], ids=["by content", "by time"])
def test_other_data_is_made_anew_and_the_old_is_removed(
    hashed: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_HASHED", hashed)
    old, new = Maker(0), Maker(1)
    before = kept(TRANSFORM, [source], 5, old)
    source.write_bytes(b"recordingS")
    os.utime(source, ns=(1, 1))
    assert np.array_equal(kept(TRANSFORM, [source], 5, new), new.samples)
    assert len(files(tmp_path)) == 1
    assert np.array_equal(before, old.samples)  # for who reads it still


def test_touching_a_small_file_changes_nothing(source: Path) -> None:
    make = Maker()
    kept(TRANSFORM, [source], 5, make)
    os.utime(source, ns=(1, 1))
    kept(TRANSFORM, [source], 5, make)
    assert make.calls == 1


@pytest.mark.parametrize(
    "other",
    [
        replace(TRANSFORM, name="toy-test"),
        replace(TRANSFORM, options={"steps": 2, "binning": "causal"}),
    ],
)
def test_another_transform_is_another_file(other: Transform, source: Path, tmp_path: Path) -> None:
    first, second = Maker(0), Maker(1)
    kept(TRANSFORM, [source], 5, first)
    assert np.array_equal(kept(other, [source], 5, second), second.samples)
    assert np.array_equal(kept(TRANSFORM, [source], 5, first), first.samples)
    assert (first.calls, second.calls, len(files(tmp_path))) == (1, 1, 2)


def test_another_version_is_another_file(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    kept(TRANSFORM, [source], 5, make)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    kept(TRANSFORM, [source], 5, make)
    assert make.calls == 2


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 158,
        npy(Maker().samples)[:-1],
        npy(Maker().samples) + b"x",
        npy(Maker().samples[:4]),
        npy(Maker().samples.astype(np.float32)),
        npy(np.array([Maker().samples], object)),
    ],
    ids=["empty", "noise", "short", "long", "few", "type", "object"],
)
def test_a_damaged_file_is_made_again(content: bytes, source: Path, tmp_path: Path) -> None:
    make = Maker()
    kept(TRANSFORM, [source], 5, make)
    files(tmp_path)[0].write_bytes(content)
    assert np.array_equal(kept(TRANSFORM, [source], 5, make), make.samples)
    assert make.calls == 2


def test_a_maker_that_fails_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def fails() -> Iterator[np.ndarray]:
        yield Maker().samples[0]
        raise ArtifactError("recording 1 is damaged")

    with pytest.raises(ArtifactError, match="recording 1 is damaged"):
        kept(TRANSFORM, [source], 5, fails)
    assert files(tmp_path) == []


@pytest.mark.parametrize("mode", ["none", "everybody's"])
def test_where_nothing_can_be_kept_it_is_made_every_time(
    mode: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode == "none":
        monkeypatch.setenv("PSU_DEPLOY_CACHE", "")
    else:
        (tmp_path / "cache" / "frames").mkdir(parents=True)
        (tmp_path / "cache" / "frames").chmod(0o777)
    make = Maker()
    for _ in range(2):
        assert np.array_equal(kept(TRANSFORM, [source], 5, make), make.samples)
    assert make.calls == 2


CHILD = """
import sys
import time
from pathlib import Path
import numpy as np
from psu_deploy.training.data.cache import Transform, kept

def samples():
    for row in range(5):
        print(row, flush=True)
        time.sleep(60)
        yield np.full((2, 3), row, np.uint8)

kept(Transform("toy-train", {"steps": 2, "binning": "paper"}, (2, 3), np.uint8), [Path(sys.argv[1])], 5, samples)
"""


@pytest.mark.nightly
def test_a_killed_writer_leaves_nothing_that_is_taken_for_a_file(source: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, str(source)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert all(path.is_dir() for path in files(tmp_path))
    make = Maker()
    assert np.array_equal(kept(TRANSFORM, [source], 5, make), make.samples)
    assert [path.suffix for path in files(tmp_path)] == [".npy"]


def test_two_writers_at_once_are_both_right(source: Path, tmp_path: Path) -> None:
    make, both_write = Maker(), Barrier(2, timeout=60)

    def samples() -> Iterator[np.ndarray]:
        both_write.wait()
        yield from make.samples
        both_write.wait()

    with ThreadPoolExecutor(2) as pool:
        arrays = [pool.submit(kept, TRANSFORM, [source], 5, samples) for _ in range(2)]
        assert all(np.array_equal(array.result(), make.samples) for array in arrays)
    assert np.array_equal(np.load(files(tmp_path)[0]), make.samples)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(("count", "terminal", "shown"), [(1000, True, True), (1000, False, False), (999, True, False)])
def test_a_bar_is_shown_where_somebody_waits(
    count: int, terminal: bool, shown: bool, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()

    def console(*, stderr: bool) -> Console:
        assert stderr
        return Console(file=screen, force_terminal=terminal)

    monkeypatch.setattr("rich.console.Console", console)
    make = Maker(count=count)
    assert np.array_equal(kept(TRANSFORM, [source], count, make), make.samples)
    assert ("toy-train: 1000 recordings" in screen.getvalue()) == shown
    assert bool(screen.getvalue()) == shown
