"""Every task gives what it says: shapes, types, labels, splits, a network that runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from psu_deploy.errors import InputError
from psu_deploy.nn.neurons import PSU
from psu_deploy.training import Recipe, preset
from psu_deploy.training.catalogue import CATALOGUE
from psu_deploy.training.data import digit_indices
from psu_deploy.training.networks import takes_neuron
from psu_deploy.training.registry import make_task, task_options
from tests.training.data import published

SPLITS = ("train", "validation", "test")

WRITE = {
    "cifar10": partial(published.write_cifar, classes=10, per_class=4),
    "cifar100": partial(published.write_cifar, classes=100, per_class=2),
    "sequential-cifar10": partial(published.write_cifar, classes=10, per_class=4),
    "sequential-cifar100": partial(published.write_cifar, classes=100, per_class=2),
    "windowed-cifar10": partial(published.write_cifar, classes=10, per_class=4),
    "shd": partial(published.write_shd, per_class=2),
    "n-mnist": partial(published.write_n_mnist, per_class=2),
    "cifar10-dvs": partial(published.write_cifar10_dvs, per_class=4),
}
"""Task -> writes a small set of its files as they are published."""


@pytest.mark.full
@pytest.mark.rows(len(CATALOGUE))
@pytest.mark.parametrize("name", CATALOGUE)
def test_samples_and_network_are_what_the_task_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(name, {})
    folder = tmp_path if name in WRITE else None
    if name in WRITE:
        WRITE[name](tmp_path)
    samples = {split: task.read(split, folder) for split in SPLITS}
    monkeypatch.setenv("PSU_DEPLOY_CACHE", "")
    for split in SPLITS:
        labels = samples[split].labels
        assert labels.dtype == np.int64
        assert 0 <= labels.min() <= labels.max() < task.classes
        again = task.read(split, folder)
        assert np.array_equal(again.inputs, samples[split].inputs)
        assert np.array_equal(again.labels, labels)
    rows = [{row.tobytes() for row in np.asarray(samples[split].inputs)} for split in SPLITS]
    assert all(rows)
    # Points that are close fire at the same steps; nothing else is there twice.
    most = 5 if name == "random-manifolds" else 0
    assert len(rows[0] & rows[1]) <= most
    assert len(rows[2] & (rows[0] | rows[1])) <= most

    batch = torch.from_numpy(np.array(samples["train"].inputs[:2]))
    if task.augment is not None:
        changed = task.augment(batch)
        assert (changed.shape, changed.dtype) == (batch.shape, batch.dtype)
        batch = changed
    x = task.encode(batch)
    assert (tuple(x.shape), x.dtype) == ((task.steps, 2, *task.input_shape), torch.float32)
    network = task.network(PSU) if takes_neuron(task.network) else task.network()
    assert network(x).shape == (2, task.classes)
    assert tuple(getattr(network, "input_shape", task.input_shape)) == task.input_shape


@pytest.mark.parametrize("name", [name for name in CATALOGUE if make_task(name, {}).source])
def test_a_task_whose_data_has_to_be_fetched_says_so(name: str) -> None:
    task = make_task(name, {})
    for split in SPLITS:
        with pytest.raises(
            InputError, match=rf"the task {name} has to be fetched: {task.source[:9]}.*https://.*data=DIR"
        ):
            task.read(split, None)


def test_pixels_come_row_by_row() -> None:
    raw, chosen = load_digits(), digit_indices()["test"]
    samples = make_task("digits-pixels", {}).read("test", None)
    assert samples.inputs.shape == (360, 64, 1)
    assert np.array_equal(samples.inputs[..., 0] * 16, raw.data[chosen])
    assert np.array_equal(samples.labels, raw.target[chosen])


@pytest.mark.parametrize("name", ["cifar10", "sequential-cifar10"])
@pytest.mark.parametrize("normalise", ["cifar10", "imagenet"])
def test_images_are_normalised_by_the_constants_that_are_named(name: str, normalise: str) -> None:
    mean, std = {
        "cifar10": ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
        "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    }[normalise]
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    x = make_task(name, {"normalise": normalise}).encode(torch.from_numpy(images)).numpy()
    wanted = (images / 255.0 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    for t in range(len(x)):
        step = wanted if name == "cifar10" else wanted[..., t]
        np.testing.assert_allclose(x[t], step, rtol=1e-5, atol=1e-5)  # rounded to float32


def test_steps_of_a_static_image_are_an_option() -> None:
    assert task_options("cifar10") == {"steps": 4, "normalise": "cifar10", "rand_augment": False}
    assert make_task("cifar10", {"steps": 6}).encode(torch.zeros(2, 3, 32, 32)).shape == (6, 2, 3, 32, 32)
    with pytest.raises(InputError, match="steps must be at least 1"):
        make_task("cifar10", {"steps": 0})
    with pytest.raises(InputError, match="normalise must be one of cifar10, imagenet, got 'none'"):
        make_task("cifar10", {"normalise": "none"})


@pytest.mark.parametrize("name", ["cifar10", "sequential-cifar100"])
def test_the_recipes_of_cifar_use_rand_augment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After crop and flip, before the erasing; a recipe of before, which does not know the option, does not."""
    places = "psu_deploy.training.catalogue.images."
    for number, change in enumerate(("cropped", "flipped", "rand_augmented", "erased")):
        monkeypatch.setattr(places + change, lambda x, *_, number=number: x * 10 + number)
    options = preset(name).options
    assert options["rand_augment"] is True
    assert int(make_task(name, options).augment(torch.zeros(1))) == 123
    before = {key: value for key, value in options.items() if key != "rand_augment"}
    assert int(make_task(name, Recipe(task=name, options=before).options).augment(torch.zeros(1))) == 13


def test_what_comes_from_outside_has_the_mean_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    place = "psu_deploy.training.catalogue.images.rand_augmented"
    monkeypatch.setattr(place, lambda x, fill: seen.append(fill) or x)
    make_task("cifar10", {"rand_augment": True}).augment(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    np.testing.assert_allclose(seen[0][:, 0, 0], [125.307, 122.961, 113.8575], rtol=1e-5)
