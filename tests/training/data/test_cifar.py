import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.training.data.cifar import cifar
from psu_deploy.training.data.pickles import ForeignError, read_dictionary
from tests.training.data.published import CIFAR_FOLDERS, python2_batch, write_cifar


def rows(images: np.ndarray, labels: np.ndarray) -> list[tuple[int, bytes]]:
    return [(int(label), image.tobytes()) for image, label in zip(images, labels, strict=True)]


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "unpacked"])
@pytest.mark.parametrize(("classes", "kind"), CIFAR_FOLDERS)
def test_every_image_of_every_published_layout_is_found(classes: int, kind: str, packed: bool, tmp_path: Path) -> None:
    wrote = write_cifar(tmp_path, classes, 2, kind, packed)
    found = {split: cifar(classes, "cifar", split, tmp_path) for split in ("train", "validation", "test")}
    for samples in found.values():
        assert (samples.inputs.dtype, samples.inputs.shape[1:]) == (np.uint8, (3, 32, 32))
    assert rows(found["test"].inputs, found["test"].labels) == rows(*wrote["test"])
    both = [rows(found[split].inputs, found[split].labels) for split in ("train", "validation")]
    assert sorted(both[0] + both[1]) == sorted(rows(*wrote["train"]))
    assert not set(both[0]) & set(both[1])


def test_the_unpacked_folder_itself_may_be_named(tmp_path: Path) -> None:
    wrote = write_cifar(tmp_path, 10, 2, "binary", packed=False)
    found = cifar(10, "cifar10", "test", tmp_path / "cifar-10-batches-bin")
    assert rows(found.inputs, found.labels) == rows(*wrote["test"])


def test_one_in_ten_of_every_class_validates(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, 20)
    labels = {split: cifar(10, "cifar10", split, tmp_path).labels for split in ("train", "validation")}
    assert np.bincount(labels["train"]).tolist() == [18] * 10
    assert np.bincount(labels["validation"]).tolist() == [2] * 10


def test_batches_are_what_pickle_itself_reads() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
    ours = python2_batch(pixels, [3, 0, 9], "labels")
    theirs = pickle.loads(ours, encoding="latin1")
    read = read_dictionary(ours)
    assert np.array_equal(theirs["data"], pixels)
    assert np.array_equal(read["data"], pixels)
    assert read["labels"] == theirs["labels"] == [3, 0, 9]
    assert read["batch_label"] == theirs["batch_label"]


@pytest.mark.parametrize("protocol", range(5))
def test_batches_that_python_3_wrote_again_are_read(protocol: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
    read = read_dictionary(pickle.dumps({b"data": pixels, b"labels": [1, 2, 3]}, protocol))
    assert np.array_equal(read["data"], pixels)
    assert read["labels"] == [1, 2, 3]


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"data": Hostile()}), "it names pathlib"),
        (pickle.dumps({"data": np.zeros(3, object)}), "expected bytes|expected dtype|an array of"),
        (pickle.dumps({"data": np.zeros(3)}), "expected bytes"),
        (pickle.dumps({"data": np.zeros((2, 3), np.uint8, "F")}), "row by row"),
        (pickle.dumps([1]), "expected a dictionary"),
        (pickle.dumps({"data": bytearray(9)}, 5), "bytearray"),
        (b"\x80\x02cnumpy\nndarray\n}U\x01xK\x01sb.", "no attribute|object"),
        (python2_batch(np.zeros((2, 3072), np.uint8), [1, 2], "labels")[:-100], "."),
        (b"", "."),
    ],
)
def test_a_pickle_that_is_anything_else_is_refused_and_not_run(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ForeignError, match=message):
        read_dictionary(content)
    assert not (tmp_path / "executed").exists()


def test_without_a_folder_it_says_where_to_get_the_data() -> None:
    with pytest.raises(
        InputError, match=r"cifar10 has to be fetched: .*kriz/cifar-10-python.tar.gz.* data=DIR.*DATA"
    ) as said:
        cifar(10, "cifar10", "train", None)
    assert "--data DIR" in str(said.value.shell)


def test_a_folder_without_the_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path} is not the data of the task cifar100.*cifar-100-python.tar.gz"):
        cifar(100, "cifar100", "train", tmp_path)
    with pytest.raises(InputError, match=f"there is no folder {tmp_path}/none"):
        cifar(100, "cifar100", "train", tmp_path / "none")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root
    with pytest.raises(InputError, match=f"the folder {tmp_path} .* may not be read"):
        cifar(10, "cifar10", "train", tmp_path)


def test_a_truncated_or_damaged_archive_is_named(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, 2)
    archive = tmp_path / "cifar-10-python.tar.gz"
    content = archive.read_bytes()
    for length in (0, 5, len(content) // 2, len(content) - 40):
        archive.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match=r"python.tar.gz is"):
            cifar(10, "cifar10", "train", tmp_path)
    middle = len(content) // 2
    archive.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(ArtifactError, match=r"python.tar.gz is"):
        cifar(10, "cifar10", "train", tmp_path)


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"), io.BytesIO())
    with pytest.raises(ArtifactError, match="there is no cifar-10-batches-py/data_batch_1 in it"):
        cifar(10, "cifar10", "train", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 3000, "3000 bytes are no rows of 3073"),
        (b"\xff" * 3073, "labels from 255 to 255, expected 0 to 9"),
        (b"", "0 bytes are no rows"),
    ],
)
def test_a_damaged_batch_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, 2, "binary", packed=False)
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    batch.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"data_batch_3.bin is damaged or no batch of CIFAR-10: {message}"):
        cifar(10, "cifar10", "train", tmp_path)
    batch.unlink()
    with pytest.raises(ArtifactError, match=r"cannot read .*data_batch_3.bin: No such file"):
        cifar(10, "cifar10", "train", tmp_path)
