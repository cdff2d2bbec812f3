import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from psu_deploy import training
from psu_deploy.training import Recipe
from psu_deploy.training.data import digit_indices, digits, to_sequences
from psu_deploy.training.datamodule import SequenceData
from psu_deploy.training.registry import make_task

SIZES = {"train": 1257, "validation": 180, "test": 360}


def test_every_image_is_in_exactly_one_split() -> None:
    indices = digit_indices()
    assert {split: len(chosen) for split, chosen in indices.items()} == SIZES
    assert sorted(np.concatenate(list(indices.values()))) == list(range(1797))


@pytest.mark.parametrize("split", SIZES)
def test_splits_are_stratified(split: str) -> None:
    everything = Counter(load_digits().target.tolist())
    found = Counter(digits(split)[1].tolist())
    share = SIZES[split] / 1797
    assert all(abs(found[label] - share * count) <= 1 for label, count in everything.items())


def test_the_split_never_changes() -> None:
    digests = {
        split: hashlib.sha256(np.sort(chosen).astype("<i8").tobytes()).hexdigest()[:16]
        for split, chosen in digit_indices().items()
    }
    assert digests == {"train": "0d29db0a22bd49f3", "validation": "1aaec38d52afb338", "test": "c21acc087499d468"}


def test_the_split_does_not_depend_on_the_seed() -> None:
    first, second = (training.test_data(Recipe(seed=seed)) for seed in (0, 1))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


@pytest.mark.parametrize("split", SIZES)
def test_step_t_is_column_t_of_the_raw_image(split: str) -> None:
    raw, chosen = load_digits(), digit_indices()[split]
    x, labels = digits(split)
    assert (x.dtype, x.shape, labels.dtype) == (np.float32, (8, SIZES[split], 8), np.int64)
    assert x.flags.c_contiguous
    for n in (0, 1, SIZES[split] - 1):
        image = raw.images[chosen[n]]
        assert labels[n] == raw.target[chosen[n]]
        for t in range(8):
            assert x[t, n].tolist() == [image[row, t] / 16 for row in range(8)]


def test_a_stroke_on_the_left_comes_first() -> None:
    image = np.zeros((1, 8, 8))
    image[0, 2:6, 0] = 16
    x = to_sequences(image)
    assert x[0, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert not x[1:].any()


def test_test_data_is_the_test_split() -> None:
    x, labels = training.test_data(Recipe())
    assert np.array_equal(x, digits("test")[0])
    assert np.array_equal(labels, digits("test")[1])


def batches(epoch: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader = SequenceData(make_task("digits", {}), batch_size=100, seed=seed).train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_batches_are_time_first_and_hold_every_sample_once() -> None:
    drawn = [(make_task("digits", {}).encode(inputs), labels) for inputs, labels in batches(epoch=0)]
    assert [tuple(x.shape) for x, _ in drawn] == [(8, 100, 8)] * 12 + [(8, 57, 8)]
    x, labels = torch.cat([x for x, _ in drawn], 1), torch.cat([labels for _, labels in drawn])
    rows = sorted((label, *row) for row, label in zip(x.transpose(0, 1).flatten(1).tolist(), labels, strict=True))
    raw, chosen = load_digits(), digit_indices()["train"]
    columns = [[image[row, t] / 16 for t in range(8) for row in range(8)] for image in raw.images[chosen]]
    assert rows == sorted((label, *row) for row, label in zip(columns, raw.target[chosen], strict=True))


def test_validation_batches_are_in_order() -> None:
    loader = SequenceData(make_task("digits", {}), batch_size=100, seed=0).val_dataloader()
    assert torch.equal(torch.cat([labels for _, labels in loader]), torch.from_numpy(digits("validation")[1]))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    first = batches(epoch=0)[0][0]
    assert torch.equal(first, batches(epoch=0)[0][0])
    assert not torch.equal(first, batches(epoch=1)[0][0])
    assert not torch.equal(first, batches(epoch=0, seed=7)[0][0])
