"""A disk that is full, and a limit on the size of a file: one sentence, and what was there is as it was."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import psu_deploy as psu
from psu_deploy.training import load_run
from tests.cli.conftest import call
from tests.importers.published import SHDNet

pytestmark = pytest.mark.full

SUFFICIENT = 3_000_000
"""Bytes of the disk, before it is filled."""

COMMANDS = {
    "machine": ("import", "net.pth.tar", "--out", "{}/new.psm"),
    "onnx": ("export", "net.psm", "--out", "{}/new.onnx"),
    "nir": ("export", "lif.psm", "--to", "nir", "--out", "{}/new.nir"),
    "lava": ("export", "net.psm", "--to", "lava", "--calibrate", "x.npy", "--out", "{}/new.net"),
    "array": ("run", "net.psm", "--input", "x.npy", "--output", "{}/new.npy"),
    "report": ("verify", "net.psm", "net.onnx", "--report", "{}/new.json"),
    "page": ("verify", "net.psm", "net.onnx", "--report", "{}/new.html"),
}


@pytest.fixture
def sources(cli, saved, exported, data) -> None:
    """What the commands read, in the current folder."""
    SHDNet("rpsu", 5).make().save("net.pth.tar")
    lif = psu.SpikingSequential(torch.nn.Linear(4, 16), psu.LIF(2.0))
    psu.to_state_machine(lif, (4,)).save("lif.psm")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small disk of its own, not that of the system's temporary folder."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SUFFICIENT}", "tmpfs", str(place)])
    except FileNotFoundError:
        mounted = None
    if mounted is None or mounted.returncode:
        pytest.skip("NO FULL DISK WAS TRIED: a disk of a few megabytes can be mounted by root only")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, leaving: int = 0) -> Path:
    """Fill a disk but for some bytes, by a file."""
    filler = place / "filler"
    filler.write_bytes(bytes(max(0, shutil.disk_usage(place).free - leaving)))
    return filler


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file of this process may grow beyond this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def content(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}


@pytest.mark.usefixtures("sources")
@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("before", [None, b"old"])
class TestOneSentence:
    def command(self, kind: str, place: Path, before: bytes | None) -> tuple[tuple[str, ...], Path]:
        words = tuple(word.format(place) for word in COMMANDS[kind])
        if before is not None:
            Path(words[-1]).write_bytes(before)
        return words, Path(words[-1])

    @pytest.mark.rows(3)
    def test_a_full_disk(self, kind, before, disk):
        words, file = self.command(kind, disk, before)
        fill(disk)
        kept = content(disk)
        result = call(*words)
        if kind not in ("report", "page"):  # whose verdict is there before it is written
            result.failed_with(f"cannot write {file}: No space left on device; ")
        assert (result.code, "Traceback" in result.err) == (2, False)
        assert content(disk) == kept

    @pytest.mark.rows(3)
    def test_a_limit_on_the_size_of_a_file(self, kind, before, tmp_path):
        place = tmp_path / "place"
        place.mkdir()
        words, _ = self.command(kind, place, before)
        kept = content(place)
        with limited(200):
            result = call(*words)
        assert result.code == 2
        assert f"File too large; {'nothing was written' if before is None else 'the file that was there'}" in result.err
        assert content(place) == kept


@pytest.mark.usefixtures("sources")
def test_a_limit_of_the_shell(tmp_path):
    """Where HDF5 itself writes, the process ends with a segmentation fault."""
    command = 'ulimit -f 1; exec "$0" -m psu_deploy export lif.psm --to nir --out new.nir'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done
    assert "error: cannot write new.nir: File too large; nothing was written" in done.stderr
    assert not list(tmp_path.glob("*new*"))


def test_a_disk_that_fills_keeps_the_last_checkpoint(disk, cli):
    """The system's temporary folder is on another one."""
    train = ("train", "digits", "--out", disk / "run", "--device", "cpu")
    assert cli(*train, "--epochs", 1).code == 0
    checkpoint = disk / "run" / "checkpoints" / "last.ckpt"
    kept = checkpoint.read_bytes()
    for name in ("weights.safetensors", "model.psm", "metrics.json"):  # as if it had been interrupted
        (disk / "run" / name).unlink()
    filler = fill(disk, leaving=20_000)
    result = cli(*train, "--epochs", 2, "--resume")
    assert result.code == 2
    message = f"error: cannot write {checkpoint}: No space left on device; the file that was there is as it was; free"
    assert result.err.splitlines()[-1].startswith(message)
    assert "Traceback" not in result.err
    assert checkpoint.read_bytes() == kept
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]
    filler.unlink()
    assert cli(*train, "--epochs", 2, "--resume").code == 0
    assert load_run(disk / "run").recipe.epochs == 2
