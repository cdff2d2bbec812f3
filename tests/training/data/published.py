"""Small data sets in the layouts in which the real ones are published, byte by byte, with contents drawn at random.

Every writer takes a folder and returns what a reader should find.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np

CIFAR_FOLDERS = {
    (10, "python"): "cifar-10-batches-py",
    (10, "binary"): "cifar-10-batches-bin",
    (100, "python"): "cifar-100-python",
    (100, "binary"): "cifar-100-binary",
}


def write_cifar(folder: Path, classes: int = 10, per_class: int = 12, kind: str = "python", packed: bool = True):
    """CIFAR-10 or CIFAR-100, `per_class` images of every class to train with and half as many to test with.

    Every class has a colour of its own, so that a network has something to learn.

    Returns:
        {"train": (images (N, 3, 32, 32), labels), "test": the same}, in the order of the files.
    """
    draw = np.random.default_rng(classes)
    splits = {"train": _images(draw, classes, per_class), "test": _images(draw, classes, (per_class + 1) // 2)}
    inside = CIFAR_FOLDERS[classes, kind]
    files = {}
    for split, (images, labels) in splits.items():
        names = _cifar_names(classes, split)
        for name, rows in zip(names, np.array_split(np.arange(len(labels)), len(names)), strict=True):
            pixels, chosen = images[rows].reshape(len(rows), -1), labels[rows]
            if kind == "python":
                files[name] = python2_batch(pixels, chosen.tolist(), "labels" if classes == 10 else "fine_labels")
            else:
                coarse = [] if classes == 10 else [chosen // 5]
                head = np.stack([*coarse, chosen], 1).astype(np.uint8)
                files[f"{name}.bin"] = np.concatenate([head, pixels], 1).tobytes()
    if packed:
        archive = inside.replace("-batches-py", "-python").replace("-batches-bin", "-binary")
        with tarfile.open(folder / f"{archive}.tar.gz", "w:gz", compresslevel=1) as tar:
            for name in reversed(files):  # any order will do
                member = tarfile.TarInfo(f"{inside}/{name}")
                member.size = len(files[name])
                tar.addfile(member, io.BytesIO(files[name]))
    else:
        (folder / inside).mkdir()
        for name, content in files.items():
            (folder / inside / name).write_bytes(content)
    return splits


def _images(draw, classes: int, per_class: int):
    labels = draw.permutation(np.repeat(np.arange(classes), per_class)).astype(np.int64)
    colours = draw.integers(40, 216, (classes, 3, 1, 1))
    images = colours[labels] + draw.integers(-40, 41, (len(labels), 3, 32, 32))
    return images.astype(np.uint8), labels


def _cifar_names(classes: int, split: str) -> list[str]:
    if classes == 100:
        return [split]
    return ["test_batch"] if split == "test" else [f"data_batch_{number}" for number in range(1, 6)]


def python2_batch(pixels, labels: list[int], key: str) -> bytes:
    """The pickle that cPickle of Python 2 writes, protocol 2, of {"data": uint8 array, key: list}."""
    rows, columns = pixels.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + _whole(rows) + _whole(columns) + b"\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    )
    numbers = b"](" + b"".join(map(_whole, labels)) + b"e"
    text = b"U\x0bbatch_label" + b"U\x15training batch 1 of 5"
    return b"\x80\x02}(" + text + _short(key) + numbers + b"U\x04data" + array + b"u."


def _whole(number: int) -> bytes:
    return b"M" + struct.pack("<H", number)


def _short(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode()


def write_shd(folder: Path, per_class: int = 11, packed: bool = False):
    """SHD: shd_train.h5 and, half as large, shd_test.h5. Recordings take from half a second to more than one.

    Every class has units of its own that fire most.

    Returns:
        {"train": (list of (times, units)), labels), "test": the same}; times are float16, as in the real files.
    """
    splits = {}
    for split, count in (("train", per_class), ("test", (per_class + 1) // 2)):
        draw = np.random.default_rng(count)
        labels = draw.permutation(np.repeat(np.arange(20), count)).astype(np.uint16)
        recordings = [_spoken(draw, int(label)) for label in labels]
        path = folder / f"shd_{split}.h5"
        with h5py.File(path, "w") as file:
            file["labels"] = labels
            for name, of, kind in (("times", 0, np.float16), ("units", 1, np.uint16)):
                rows = file.create_dataset(f"spikes/{name}", (len(labels),), h5py.vlen_dtype(kind))
                for row, recording in enumerate(recordings):
                    rows[row] = recording[of]
            file["extra/keys"] = [f"digit {label}".encode() for label in range(20)]
            file["extra/speaker"] = draw.integers(0, 12, len(labels)).astype(np.uint16)
        if packed:
            (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
            path.unlink()
        splits[split] = recordings, labels.astype(np.int64)
    return splits


def _spoken(draw, label: int):
    count, length = draw.integers(100, 400), draw.uniform(0.5, 1.3)
    times = np.sort(draw.uniform(0.01, length, count)).astype(np.float16)
    units = np.where(draw.random(count) < 0.7, 35 * label + draw.integers(0, 35, count), draw.integers(0, 700, count))
    return times, units.astype(np.uint16)


def write_n_mnist(folder: Path, per_class: int = 3, packed: bool = False):
    """N-MNIST: Train/0/00001.bin and so on, half as many in Test.

    Returns:
        {"train": list of (label, events), "test": the same}, class by class; events are rows (t, x, y, on).
    """
    splits = {}
    for split, count in (("Train", per_class), ("Test", (per_class + 1) // 2)):
        draw = np.random.default_rng(count)
        files = {}
        splits[split.lower()] = found = []
        for label in range(10):
            for number in range(count):
                events = _saccades(draw, label, 34, 310_000)
                files[f"{split}/{label}/{number + 1:05}.bin"] = atis(events)
                found.append((label, events))
        _write_files(folder, files, [f"{split}.zip"] if packed else None)
    return splits


def write_cifar10_dvs(folder: Path, per_class: int = 12, packed: bool = False):
    """CIFAR10-DVS: airplane/cifar10_airplane_0.aedat and so on.

    Returns:
        list of (label, number, events), class by class; events are rows (t, x, y, on).
    """
    draw = np.random.default_rng(per_class)
    files, found = {}, []
    for label, name in enumerate(DVS_NAMES):
        for number in range(per_class):
            events = _saccades(draw, label, 128, 1_300_000)
            files[f"{name}/cifar10_{name}_{number}.aedat"] = aedat2(events)
            found.append((label, number, events))
    _write_files(folder, files, [f"{name}.zip" for name in DVS_NAMES] if packed else None)
    return found


DVS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _saccades(draw, label: int, size: int, length: int):
    """A bar at an angle of its own for every class, that moves."""
    count = int(draw.integers(200, 400))
    times = np.sort(draw.integers(0, length, count))
    along, angle = draw.uniform(-0.4, 0.4, count), np.pi * label / 10
    moved = 0.1 * times / length
    x = (0.5 + along * np.cos(angle) + moved * np.sin(angle)) * size
    y = (0.5 + along * np.sin(angle) - moved * np.cos(angle)) * size
    events = np.stack([times, x, y, draw.integers(0, 2, count)], 1).astype(np.int64)
    return np.clip(events, 0, [length, size - 1, size - 1, 1])


def atis(events) -> bytes:
    """Events of 40 bits, as the N-MNIST files have them; one overflow in the middle where that fits."""
    content, late = b"", 0
    for row, (t, x, y, on) in enumerate(events.tolist()):
        if row == len(events) // 2 and t >= 8192:
            content, late = content + bytes([0, 240, 0, 0, 0]), 8192
        content += ((x << 32) | (y << 24) | (on << 23) | (t - late)).to_bytes(5, "big")
    return content


def aedat2(events, start: int = 77_000_000) -> bytes:
    """AEDAT 2.0 of a DVS128, as jAER writes it; the camera's clock does not begin at 0."""
    header = (
        b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
        b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
        b"# Timestamps tick is 1 us\r\n# created Thu Jun 22 13:52:41 CST 2014\r\n"
    )
    rows = [
        struct.pack(">II", ((127 - x) << 8) | ((127 - y) << 1) | (1 - on), start + t) for t, x, y, on in events.tolist()
    ]
    return header + b"".join(rows)


def _write_files(folder: Path, files: dict[str, bytes], archives: list[str] | None) -> None:
    for archive in archives or ():
        with zipfile.ZipFile(folder / archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files.items():
                if name.startswith(archive.removesuffix(".zip") + "/"):
                    packed.writestr(name, content)
    for name, content in () if archives else files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
