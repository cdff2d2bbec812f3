"""A run whose numbers are none any more ends at the end of that epoch, and nothing of the epoch is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from psu_deploy.errors import InputError
from psu_deploy.training import Recipe, train
from psu_deploy.training.module import Classifier

pytestmark = pytest.mark.full

RECIPE = Recipe(neuron="psu", hidden=8, epochs=3, batch_size=400)


def quick(folder: Path, recipe: Recipe = RECIPE, **options: Any) -> None:
    train(recipe, folder, device="cpu", progress=False, pictures=False, **options)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"learning_rate": 9e8}, r"a learning_rate below 9e\+08$"),
        ({"neuron_options": {"threshold": 1e39}}, r"or other neuron_options than {'threshold': 1e\+39}$"),
    ],
)
def test_nothing_is_left_of_a_first_epoch(tmp_path: Path, change: Any, remedy: str) -> None:
    recipe = Recipe(neuron="psu", hidden=8, epochs=3, **change)
    sentence = (
        r"the training diverged: layers\.0\.weight of the network, with \d+ more, holds NaN or infinity "
        r"after epoch 1 of 3; no checkpoint was written; begin anew by overwrite=True, with .*"
    )
    for again in (False, True):  # the same recipe gives the same
        with pytest.raises(InputError, match=sentence + remedy):
            quick(tmp_path, recipe, resume=again)
        assert files_in(tmp_path) == {"recipe.json"}


@pytest.mark.parametrize("what", ["parameters", "buffers"])
@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_the_epoch_before_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: float) -> None:
    """And who goes on from there, the cause gone, gets what a run without it gives."""
    step = Classifier.validation_step

    def spoilt(self: Classifier, batch: Any, index: int) -> None:
        if (self.current_epoch, index) == (1, 0):
            next(getattr(self.model, what)()).data.view(-1)[-1] = number
        step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "validation_step", spoilt)
        name = r"layers\.0\.weight" if what == "parameters" else r"layers\.1\.running_mean"
        with pytest.raises(InputError, match=rf"diverged: {name} of the network holds .* epoch 2 of 3; the checkpoint"):
            quick(tmp_path / "run")
    assert files_in(tmp_path / "run") == {"recipe.json", "log.csv", "checkpoints/last.ckpt"}
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 2
    quick(tmp_path / "run", resume=True)
    quick(tmp_path / "whole")
    found, expected = (load_file(tmp_path / name / "weights.safetensors") for name in ("run", "whole"))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_what_was_infinite_from_the_beginning_is_meant_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the mask of an attention."""
    build = Recipe.build_network

    def masked(self: Recipe) -> nn.Module:
        network = build(self)
        network.register_buffer("mask", torch.full((2,), -torch.inf), persistent=False)
        return network

    monkeypatch.setattr(Recipe, "build_network", masked)
    quick(tmp_path, Recipe(neuron="psu", hidden=8, epochs=1, batch_size=400))
    assert (tmp_path / "weights.safetensors").is_file()
