"""N-MNIST and CIFAR10-DVS: every event of every file is where it should be."""

from pathlib import Path

import numpy as np
import pytest
import torch

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.training.data import cifar10_dvs as dvs
from psu_deploy.training.data.binning import Binning
from psu_deploy.training.data.cifar10_dvs import cifar10_dvs
from psu_deploy.training.data.n_mnist import events_of, n_mnist
from psu_deploy.training.registry import make_task
from tests.training.data.published import atis, write_cifar10_dvs, write_n_mnist

SPLITS = ("train", "validation", "test")
BINNINGS = {kind: Binning(kind, 10, 31.0) for kind in ("paper", "causal")}


def by_hand(events: np.ndarray, kind: str, size: int, width: int = 31_000) -> np.ndarray:
    start = 0
    if kind == "paper":
        start, width = events[0, 0], (events[-1, 0] - events[0, 0]) // 10
    counts = np.zeros((10, 2, size, size), int)
    for t, x, y, on in events.tolist():
        if (t - start) // width < 10:
            counts[(t - start) // width, on, y, x] += 1
    return counts


@pytest.mark.full
@pytest.mark.parametrize("packed", [False, True], ids=["folders", "zip"])
@pytest.mark.parametrize("kind", BINNINGS)
def test_every_event_of_n_mnist_is_counted(kind: str, packed: bool, tmp_path: Path) -> None:
    wrote = write_n_mnist(tmp_path, 2, packed)
    found = {split: n_mnist(BINNINGS[kind], split, tmp_path) for split in SPLITS}
    wanted = [by_hand(events, kind, 34) for _, events in wrote["test"]]
    assert np.array_equal(found["test"].inputs, wanted)
    assert found["test"].labels.tolist() == [label for label, _ in wrote["test"]]
    for split, number in (("validation", 0), ("train", 1)):
        assert np.array_equal(found[split].inputs, [by_hand(e, kind, 34) for _, e in wrote["train"][number::2]])
        assert found[split].labels.tolist() == list(range(10))


@pytest.mark.nightly  # tonic takes four seconds to import
def test_events_of_n_mnist_are_those_of_tonic(tmp_path: Path) -> None:
    from tonic.datasets import NMNIST
    from tonic.io import read_mnist_file

    (_, events), *_ = write_n_mnist(tmp_path, 1)["train"]
    theirs = read_mnist_file(str(tmp_path / "Train" / "0" / "00001.bin"), NMNIST.dtype)
    ours = events_of(atis(events))
    assert np.array_equal(ours.times, theirs["t"])
    assert np.array_equal(ours.places, (theirs["p"] * 34 + theirs["y"]) * 34 + theirs["x"])
    assert theirs["t"].max() > 8192


def resized(counts: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, corners aligned: output pixel i lies at i (n - 1) / (size - 1) of the input."""
    n = counts.shape[-1]
    at = np.arange(size) * (n - 1) / (size - 1)
    low = np.minimum(at.astype(int), n - 2)
    weights = np.zeros((size, n))
    weights[np.arange(size), low] = 1 - (at - low)
    weights[np.arange(size), low + 1] = at - low
    return weights @ counts @ weights.T


@pytest.mark.full
@pytest.mark.parametrize("packed", [False, True], ids=["folders", "zip"])
@pytest.mark.parametrize("kind", ["paper", "causal"])
def test_every_event_of_cifar10_dvs_is_counted(kind: str, packed: bool, tmp_path: Path) -> None:
    wrote = write_cifar10_dvs(tmp_path, 12, packed)
    found = {split: cifar10_dvs(Binning(kind, 10, 120.0), split, tmp_path) for split in SPLITS}
    wanted = {"train": range(1, 10), "validation": [0], "test": [10, 11]}
    for split in SPLITS:
        chosen = [(label, events) for label, number, events in wrote if number in wanted[split]]
        assert found[split].labels.tolist() == [label for label, _ in chosen]
        for row in (0, len(chosen) // 2, len(chosen) - 1):
            events = chosen[row][1] - [chosen[row][1][0, 0], 0, 0, 0]
            counts = by_hand(events, kind, 128, 120_000)
            # float32, in another order
            np.testing.assert_allclose(found[split].inputs[row], resized(counts, 48), rtol=1e-4, atol=1e-5)


def test_the_bits_of_an_address() -> None:
    """A camera on its side: bits 1 to 7 are rows from below, bits 8 to 14 columns from the right, bit 0 is off."""
    content = b"#!AER-DAT2.0\r\n# any\r\n" + b"".join(
        bits.to_bytes(4, "big") + time.to_bytes(4, "big")
        for bits, time in [(0b0_0000011_0000101_1, 500), (0b0_1111111_0000000_0, 507)]
    )
    events = dvs.events_of(content)
    assert events.times.tolist() == [0, 7]
    assert events.places.tolist() == [(0 * 128 + 122) * 128 + 124, (1 * 128 + 127) * 128 + 0]


def test_the_files_are_ordered_by_number(tmp_path: Path) -> None:
    write_cifar10_dvs(tmp_path, 12)
    names = [recording.name for recording in dvs.recordings_of(tmp_path, ["cat"], ["cat.zip"], ".aedat")]
    assert names == [f"cifar10_cat_{number}.aedat" for number in range(12)]


@pytest.mark.parametrize("read", [n_mnist, cifar10_dvs])
def test_without_files_it_says_where_to_get_them(read, tmp_path: Path) -> None:
    name = read.__name__.replace("_", "-")
    with pytest.raises(InputError, match=rf"is not the data of the task {name}, it holds none of these.*https://"):
        read(BINNINGS["paper"], "train", tmp_path)


def test_files_of_another_format_are_named(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "cifar10_cat_0.aedat4").touch()
    with pytest.raises(InputError, match=r"it holds .aedat4 files, which are not read: download"):
        cifar10_dvs(BINNINGS["paper"], "train", tmp_path)


def test_a_class_that_is_missing_is_named(tmp_path: Path) -> None:
    write_n_mnist(tmp_path, 1)
    for path in (tmp_path / "Train" / "7").iterdir():
        path.unlink()
    with pytest.raises(ArtifactError, match=r"is not complete: no .bin files in Train/7; fetch it again"):
        n_mnist(BINNINGS["paper"], "train", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are no events of 5 bytes"),
        (b"1234", "4 bytes are no events"),
        (bytes([34, 0, 0, 0, 0]), "events outside of 34 x 34 pixels"),
        (bytes([0, 34, 0, 0, 0]), "events outside of 34 x 34 pixels"),
        (bytes(5) * 300, "300 events in one place and one step"),
    ],
)
def test_a_damaged_recording_of_n_mnist_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    write_n_mnist(tmp_path, 2)
    (tmp_path / "Train" / "3" / "00002.bin").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"Train/3/00002.bin is damaged or no such recording: {message}"):
        n_mnist(BINNINGS["causal"], "train", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it does not begin with #!AER-DAT2.0"),
        (b"#!AER-DAT2.0\r\n", "0 bytes are no events of 8 bytes"),
        (b"#!AER-DAT2.0", "0 bytes are no events"),
        (b"#!AER-DAT2.0\r\n" + bytes(12), "12 bytes are no events"),
        (b"#!AER-DAT4.0\r\n" + bytes(16), "it does not begin"),
    ],
)
def test_a_damaged_recording_of_cifar10_dvs_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    write_cifar10_dvs(tmp_path, 3)
    (tmp_path / "deer" / "cifar10_deer_1.aedat").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"cifar10_deer_1.aedat is damaged or no such recording: {message}"):
        cifar10_dvs(BINNINGS["paper"], "train", tmp_path)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    write_n_mnist(tmp_path, 2, packed=True)
    archive = tmp_path / "Train.zip"
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=r"Train.zip is truncated or damaged: .*; fetch it again"):
        n_mnist(BINNINGS["paper"], "train", tmp_path)
    archive.write_bytes(content[:60] + bytes(10) + content[70:])
    with pytest.raises(ArtifactError, match=r"cannot read .*Train.zip: Train/0/0000.*; fetch it again"):
        n_mnist(BINNINGS["paper"], "validation", tmp_path)  # the first of every class


def test_the_network_for_n_mnist_sees_the_middle() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (3, 10, 2, 34, 34), np.uint8)
    x = make_task("n-mnist", {}).encode(torch.from_numpy(counts))
    assert np.array_equal(x, counts[..., 1:33, 1:33].swapaxes(0, 1))
