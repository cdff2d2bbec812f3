import errno
import gzip
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.training.data.binning import Binning
from psu_deploy.training.data.shd import shd
from tests.training.data.published import write_shd

PAPER, CAUSAL = Binning("paper", 15, 60.0), Binning("causal", 15, 60.0)


def by_hand(recording: tuple[np.ndarray, np.ndarray], kind: str) -> np.ndarray:
    """The authors' way: cut at 900 ms or pad to it, then 15 bins of whole microseconds from the first event on."""
    spikes = [(int(float(time) * 1e6), int(unit)) for time, unit in zip(*recording, strict=True)]
    start, width = 0, 60_000
    if kind == "paper":
        early = [(t, unit) for t, unit in spikes if t <= 900_000]
        spikes = early if len(early) < len(spikes) else [*spikes, (900_000, spikes[-1][1])]
        start = spikes[0][0]
        width = (spikes[-1][0] - start) // 15
    counts = np.zeros((15, 700), int)
    for t, unit in spikes:
        if (t - start) // width < 15:
            counts[(t - start) // width, unit] += 1
    return counts


@pytest.mark.full
@pytest.mark.parametrize("packed", [False, True], ids=["h5", "gz"])
@pytest.mark.parametrize("binning", [PAPER, CAUSAL], ids=["paper", "causal"])
def test_every_recording_is_counted(binning: Binning, packed: bool, tmp_path: Path) -> None:
    wrote = write_shd(tmp_path, 2, packed)
    found = {split: shd(binning, split, tmp_path) for split in ("train", "validation", "test")}
    recordings, labels = wrote["test"]
    assert np.array_equal(found["test"].labels, labels)
    assert np.array_equal(found["test"].inputs, [by_hand(recording, binning.kind) for recording in recordings])
    recordings, labels = wrote["train"]
    wanted = [(label, by_hand(each, binning.kind).tobytes()) for each, label in zip(recordings, labels, strict=True)]
    rows = [
        (label, row.astype(int).tobytes())
        for split in ("train", "validation")
        for row, label in zip(found[split].inputs, found[split].labels, strict=True)
    ]
    assert sorted(rows) == sorted(wanted)


@pytest.mark.nightly  # tonic takes four seconds to import
def test_times_are_those_of_tonic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tonic.datasets import SHD
    from tonic.functional import to_frame_numpy

    write_shd(tmp_path, 1)
    (tmp_path / "SHD").mkdir()
    (tmp_path / "shd_test.h5").rename(tmp_path / "SHD" / "shd_test.h5")
    monkeypatch.setattr(SHD, "_check_exists", lambda self: True)
    theirs = SHD(str(tmp_path), train=False)
    ours = shd(CAUSAL, "test", tmp_path / "SHD")
    for row in range(len(theirs)):
        events, label = theirs[row]
        events["p"] = 0
        frames = to_frame_numpy(events, (700, 1, 1), time_window=60_000, start_time=0, end_time=900_000)
        assert np.array_equal(ours.inputs[row], frames[:, 0])
        assert ours.labels[row] == label


def test_without_files_it_says_which(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not the data of the task shd.*zenkelab.org/datasets/shd_train.h5.gz"):
        shd(PAPER, "train", tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("packed", [False, True], ids=["h5", "gz"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(packed: bool, share: float, tmp_path: Path) -> None:
    write_shd(tmp_path, 2, packed)
    path = next(tmp_path.glob("shd_train*"))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArtifactError, match=rf"{path.name} is truncated, damaged or not .*; fetch it again$"):
        shd(PAPER, "train", tmp_path)


def damage(path: Path, name: str, value: object) -> None:
    with h5py.File(path, "a") as file:
        old = file[name][()] if callable(value) else None
        del file[name]
        if callable(value):
            rows = file.create_dataset(name, old.shape, h5py.vlen_dtype(value(old[0]).dtype))
            for row, numbers in enumerate(old):
                rows[row] = value(numbers)
        elif value is not None:
            file[name] = value


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", None, "expected 'labels', found"),
        ("labels", np.full(40, 20), "labels are not from 0 to 19"),
        ("labels", np.zeros(39, int), "there are not times and units for 39 labels"),
        ("labels", np.zeros(40), "labels are no whole numbers"),
        ("spikes", np.zeros(40), "there are not times and units for 40 labels"),
        ("spikes/units", None, "there are not times and units for 40 labels"),
        ("spikes/units", [b"text"] * 40, "units are no rows of whole numbers"),
        ("spikes/times", lambda times: times[1:], r"recording \d+: no time from 0 to 3600 seconds for every unit"),
        ("spikes/times", lambda times: times * np.nan, "no time from 0"),
        ("spikes/times", lambda times: times - 9, "no time from 0"),
        ("spikes/units", lambda units: units + np.float32(0.5), "units are no rows of whole numbers"),
        ("spikes/units", lambda units: units + 700, "units that are not from 0 to 699"),
        ("spikes/units", lambda units: 0 * units, "events in one place and one step"),
    ],
)
def test_a_file_of_something_else_is_named(name: str, value: object, message: str, tmp_path: Path) -> None:
    write_shd(tmp_path, 2)
    damage(tmp_path / "shd_train.h5", name, value)
    with pytest.raises(ArtifactError, match=f"shd_train.h5.* not (of )?SHD: .*{message}.*; fetch it again"):
        shd(Binning("causal", 1, 2000.0), "train", tmp_path)


def test_a_packed_file_that_becomes_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shd_train.h5.gz").write_bytes(gzip.compress(bytes(1 << 20)))
    monkeypatch.setenv("PSU_DEPLOY_MAX_MEMORY", "1000")
    with pytest.raises(ArtifactError, match="PSU_DEPLOY_MAX_MEMORY"):
        shd(PAPER, "train", tmp_path)


def test_a_disk_without_space_for_what_is_packed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shd(tmp_path, 1, packed=True)

    def full(path: Path, mode: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ArtifactError, match=r"cannot unpack .*shd_train.h5.gz to .*: No space left on device$"):
        shd(PAPER, "train", tmp_path)
