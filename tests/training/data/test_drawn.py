"""Data that is drawn: what it must be, by its definition, and the same every time."""

import hashlib
import math
from itertools import combinations

import numpy as np
import pytest
import torch

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import InputError
from psu_deploy.training.data.delayed_recall import DelayedRecall
from psu_deploy.training.data.manifolds import RandomManifolds
from psu_deploy.training.registry import make_task

SPLITS = ("train", "validation", "test")
RECALL = DelayedRecall(symbols=3, cue=2, delay=5, answer=4, noise=0.0, samples=41, seed=7)
MANIFOLDS = RandomManifolds(classes=4, units=6, dimensions=2, steps=30, alpha=2.0, samples=200, seed=7)


@pytest.mark.parametrize("split", SPLITS)
def test_a_symbol_is_shown_and_then_asked_for(split: str) -> None:
    samples = RECALL.read(split, None)
    assert samples.inputs.shape == (41 if split == "train" else 11, 11, 4)
    for spikes, label in zip(samples.inputs, samples.labels, strict=True):
        wanted = np.zeros((11, 4))
        wanted[:2, label] = 1
        wanted[7:, 3] = 1
        assert np.array_equal(spikes, wanted)
    assert set(samples.labels) == {0, 1, 2}


def test_noise_turns_entries_over() -> None:
    clean = DelayedRecall(3, 2, 5, 4, 0.0, 2000, 7).read("train", None)
    noisy = DelayedRecall(3, 2, 5, 4, 0.1, 2000, 7).read("train", None)
    assert np.array_equal(clean.labels, noisy.labels)
    turned = (clean.inputs != noisy.inputs).mean((0,))
    assert turned.shape == (11, 4)
    assert np.abs(turned - 0.1).max() < 0.04  # 2000 samples: six deviations
    assert set(np.unique(noisy.inputs)) == {0, 1}


@pytest.mark.full
def test_only_the_last_steps_answer() -> None:
    task = make_task("delayed-recall", {"delay": 2, "answer": 3})
    torch.manual_seed(0)
    network = task.network("psu", hidden=16).eval()
    x = task.encode(torch.from_numpy(task.read("test", None).inputs[:5]))
    with torch.no_grad():
        wanted = network.layers(x)[-3:].sum(0) / 3
        torch.testing.assert_close(network(x), wanted, rtol=1e-6, atol=1e-6)  # a sum in another order
        machine = to_state_machine(network, task.input_shape)
        torch.testing.assert_close(machine.run(x)[-1], wanted, rtol=0, atol=1e-4)  # BatchNorm is folded


@pytest.mark.parametrize("split", SPLITS)
def test_every_unit_fires_once(split: str) -> None:
    samples = MANIFOLDS.read(split, None)
    assert samples.inputs.shape == (200 if split == "train" else 50, 30, 6)
    assert (samples.inputs.sum(1) == 1).all()
    assert set(samples.labels) == {0, 1, 2, 3}


def test_spike_times_are_points_of_a_fourier_series() -> None:
    """By its definition, number by number, from the same draws in the same order."""
    samples = RandomManifolds(2, 2, 2, 40, 3.0, 8, 5).read("train", None)
    draw = np.random.default_rng((5, 1))
    labels, points = draw.integers(0, 2, 8), draw.random((8, 2))
    assert np.array_equal(samples.labels, labels)
    for label in (0, 1):
        draw = np.random.default_rng((5, 0, label))
        a, b, reference = (draw.random(shape) for shape in [(2, 2, 10), (2, 2, 10), (1000, 2)])
        for unit in (0, 1):
            reach = [series(u, a[unit], b[unit]) for u in reference]
            for spikes, point in zip(samples.inputs[labels == label], points[labels == label], strict=True):
                place = (series(point, a[unit], b[unit]) - min(reach)) / (max(reach) - min(reach))
                assert spikes[:, unit].argmax() == min(max(int(40 * place // 1), 0), 39)


def series(u: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    value = 1.0
    for d in range(2):
        value *= sum(a[d, k - 1] / k**3 * math.sin(2 * math.pi * (k * u[d] + b[d, k - 1])) for k in range(1, 11))
    return value


@pytest.mark.full
def test_close_points_fire_at_close_times_and_more_so_where_it_is_smooth() -> None:
    rough, smooth = (RandomManifolds(1, 20, 1, 1000, alpha, 1, 0) for alpha in (1.0, 4.0))
    points = np.linspace(0.2, 0.8, 500)[:, None]
    jumps = [np.abs(np.diff(each._times(0, points), axis=0)).mean() for each in (rough, smooth)]
    assert jumps[1] < 10 < jumps[0]


@pytest.mark.parametrize("data", [RECALL, MANIFOLDS])
def test_the_same_seed_gives_the_same_samples(data) -> None:
    again, other = type(data)(**vars(data)), type(data)(**vars(data) | {"seed": 8})
    for split in SPLITS:
        samples = [each.read(split, None) for each in (data, again, other)]
        assert np.array_equal(samples[0].inputs, samples[1].inputs)
        assert np.array_equal(samples[0].labels, samples[1].labels)
        assert not np.array_equal(samples[0].inputs, samples[2].inputs)


def test_the_splits_are_draws_of_their_own() -> None:
    parts = [MANIFOLDS.read(split, None).inputs for split in SPLITS]
    rows = [{row.tobytes() for row in part} for part in parts]
    for one, other in combinations(rows, 2):
        assert len(one & other) < 3  # two points of one manifold may share all six steps


def test_the_draws_never_change() -> None:
    digests = [hashlib.sha256(data.read("test", None).inputs.tobytes()).hexdigest()[:8] for data in (RECALL, MANIFOLDS)]
    assert digests == ["0ffa8ef1", "88dc8aab"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("delayed-recall", {"delay": -1}, "delay is a number of steps and must be at least 0, got -1"),
        ("delayed-recall", {"symbols": 0}, "symbols must be at least 1"),
        ("delayed-recall", {"answer": 0}, "answer must be at least 1"),
        ("delayed-recall", {"noise": 0.5}, "noise is a probability and must be at least 0 and below 0.5"),
        ("delayed-recall", {"noise": float("nan")}, "noise is a probability"),
        ("delayed-recall", {"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ("random-manifolds", {"alpha": 0.0}, "alpha is a smoothness and must be from 0.5 to 100, got 0.0"),
        ("random-manifolds", {"units": 0}, "units must be at least 1"),
        ("random-manifolds", {"samples": 0}, "samples must be at least 1"),
        ("random-manifolds", {"seed": 2**32}, "seed must be from 0"),
    ],
)
def test_refuses(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task(name, options)
