"""Tasks of one's own."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy import training
from psu_deploy.errors import InputError
from psu_deploy.training import Recipe, Samples, Task, load_run, register, registry, task_names, train

STEPS = 5


def bars(split: str, folder: Path | None) -> Samples:
    """Which of two lines is active."""
    labels = np.arange({"train": 64, "validation": 16, "test": 32}[split]) % 2
    x = np.zeros((len(labels), STEPS, 2), np.float32)
    x[np.arange(len(labels)), :, labels] = 3
    return Samples(x, labels)


class Net(nn.Module):
    def __init__(self, neuron: psu.models.neurons.NeuronMaker, hidden: int = 6) -> None:
        super().__init__()
        self.body = psu.SpikingSequential(nn.Linear(2, hidden), neuron(), nn.Linear(hidden, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).mean(0)


TASK = Task(read=bars, steps=STEPS, input_shape=(2,), classes=2, network=Net)


def of_length(steps: int = STEPS, loud: bool = False, gain: float = 1.0, word: str = "a") -> Task:
    return TASK


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_REGISTERED", {})
    yield
    registry._points.cache_clear()


def test_a_task_of_ones_own_is_trained_and_read_back(tmp_path: Path) -> None:
    register("bars", TASK)
    recipe = Recipe(task="bars", neuron="psu", epochs=8, batch_size=16, neuron_options={"threshold": 0.3})
    assert (recipe.hidden, recipe.dropout) == (6, None)
    result = train(recipe, tmp_path / "run", device="cpu", progress=False, pictures=False)
    assert result.test_accuracy == 1.0
    run = load_run(tmp_path / "run")
    neuron = next(module for module in run.model.modules() if isinstance(module, psu.PSU))
    assert neuron.threshold == 0.3
    x, labels = training.test_data(recipe)
    assert x.shape == (STEPS, 32, 2)
    assert psu.StateMachine.load(tmp_path / "run" / "model.psm").run(x)[-1].argmax(1).tolist() == labels.tolist()
    assert [
        len(part) for part in (training.test_data(recipe, samples=4)[1], training.test_data(recipe, samples=99)[1])
    ] == [4, 32]


def test_options_are_the_arguments() -> None:
    register("long", of_length)
    assert Recipe(task="long").options == {"steps": 5, "loud": False, "gain": 1.0, "word": "a"}
    assert Recipe(task="long", options={"gain": 2}).options["gain"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 1}, "the task long has the options steps, loud, gain, word; got speed"),
        ({"steps": 2.0}, "the option steps of the task long must be a whole number, got 2.0"),
        ({"steps": True}, "the option steps of the task long must be a whole number, got True"),
        ({"loud": 1}, "the option loud of the task long must be true or false, got 1"),
        ({"gain": "x"}, "the option gain of the task long must be a number, got 'x'"),
        ({"word": 1}, "the option word of the task long must be a word, got 1"),
        ({"word": [1]}, "options must map names to numbers, words, true or false"),
        ("steps", "options must map names to numbers"),
    ],
)
def test_wrong_options(options: object, message: str) -> None:
    register("long", of_length)
    with pytest.raises(InputError, match=message):
        Recipe(task="long", options=options)  # type: ignore[arg-type]


def test_what_the_network_does_not_take() -> None:
    register("bars", TASK)
    with pytest.raises(InputError, match=r"the network of this task takes no dropout; leave it out, got 0.5"):
        Recipe(task="bars", dropout=0.5)


def test_names_and_arguments_that_cannot_be() -> None:
    register("bars", TASK)
    with pytest.raises(InputError, match="there is a task called bars already"):
        register("bars", TASK)
    with pytest.raises(InputError, match="there is a task called digits already"):
        register("digits", TASK)
    with pytest.raises(InputError, match=r"the argument steps of the task other is an option .* give it a default"):
        register("other", lambda steps: TASK)
    with pytest.raises(InputError, match="the task other must be a Task or a function that makes one, got int"):
        register("other", 3)  # type: ignore[arg-type]


def test_another_package_brings_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("theirs", f"{__name__}:TASK", registry.GROUP),
        EntryPoint("broken", "no_such:T", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: TASK if self.name == "theirs" else __import__("no_such"))
    registry._points.cache_clear()
    assert {"theirs", "broken"} <= set(task_names())
    assert Recipe(task="theirs").make_task() is TASK
    with pytest.raises(InputError, match="the task broken of no_such:T does not load: No module named 'no_such'"):
        Recipe(task="broken")


def reading(change: Callable[[np.ndarray, np.ndarray], object]) -> Callable[[str, Path | None], object]:
    return lambda split, folder: change(bars(split, folder).inputs, bars(split, folder).labels)


def with_nan(x: np.ndarray, y: np.ndarray) -> Samples:
    x[3, 2, 1] = np.nan
    return Samples(x, y)


WRONG = {
    "raises": (lambda x, y: {}["oops"], "the task bars fails to read its train split: KeyError: 'oops'"),
    "no samples": (lambda x, y: (x, y), "read of the task bars must return Samples, got tuple"),
    "tensors": (lambda x, y: Samples(torch.from_numpy(x), y), "samples and labels are numpy arrays, got Tensor"),
    "labels that are no numbers": (lambda x, y: Samples(x, y * 0.5), r"labels are whole numbers \(N,\), got float64"),
    "labels beyond": (lambda x, y: Samples(x, y + 1), r"train labels of the task bars must lie in 0\.\.1, got 1\.\.2"),
    "labels below": (lambda x, y: Samples(x, y - 1), r"must lie in 0\.\.1, got -1\.\.0"),
    "NaN": (with_nan, "train samples of the task bars must be finite; sample 3 holds NaN or infinity"),
    "other steps": (lambda x, y: Samples(x[:, :4], y), r"sequences of shape \(4, 2, 2\); .* = \(5, 2, 2\)"),
    "other features": (lambda x, y: Samples(x[..., :1], y), r"sequences of shape \(5, 2, 1\)"),
    "no features": (lambda x, y: Samples(x[:, 0, 0], y), "fails to make sequences of its samples"),
}


@pytest.mark.rows(len(WRONG))
@pytest.mark.parametrize("name", WRONG)
def test_data_that_is_not_what_the_task_says(name: str, tmp_path: Path) -> None:
    """Said before anything is trained or written, so that the corrected command is the same."""
    change, message = WRONG[name]
    register("bars", replace(TASK, read=reading(change)))
    with pytest.raises(InputError, match=message):
        train(Recipe(task="bars"), tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_network_that_is_not_what_the_task_says(tmp_path: Path) -> None:
    register("more", replace(TASK, classes=3))
    register("other", replace(TASK, network=lambda neuron: nn.Linear(7, 2)))
    with pytest.raises(InputError, match=r"the network of the task more gives \(2, 2\); .* = \(2, 3\)"):
        train(Recipe(task="more"), tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(InputError, match="the network of the task other fails on its samples"):
        train(Recipe(task="other"), tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_samples_and_labels_belong_together() -> None:
    with pytest.raises(InputError, match="got 3 samples and 2 labels"):
        Samples(np.zeros((3, 1)), np.zeros(2, np.int64))
    with pytest.raises(InputError, match="at least one sample"):
        Samples(np.zeros((0, 1)), np.zeros(0, np.int64))
