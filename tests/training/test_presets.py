"""Recipes of files: every one is whole, and any field can be another."""

from dataclasses import fields

import pytest
import yaml

from psu_deploy.errors import InputError
from psu_deploy.models import CAUSAL
from psu_deploy.training import RECIPES, Recipe, preset
from psu_deploy.training.catalogue import CATALOGUE
from psu_deploy.training.presets import _FOLDER


def test_every_task_has_a_file_and_every_neuron_a_recipe() -> None:
    assert {name.rpartition("-")[0] for name in RECIPES} == set(CATALOGUE)
    own = {name for name in CATALOGUE if name.startswith("windowed")}
    assert len(RECIPES) == len(set(CATALOGUE) - own) * len(CAUSAL) + len(own)
    assert all(RECIPES[name].neuron == name.rpartition("-")[2] for name in RECIPES)


@pytest.mark.parametrize("task", CATALOGUE)
def test_a_file_says_nothing_that_a_recipe_does_not_know(task: str) -> None:
    values = yaml.safe_load((_FOLDER / f"{task}.yaml").read_text())
    known = {field.name for field in fields(Recipe)} | {"neurons"}
    assert set(values) <= known
    assert set(values.get("neurons", {})) <= set(CAUSAL)


def test_the_paper_s_rows() -> None:
    """Optimiser, loss, warm-up and surrogate of arXiv 2402.00449, section 5; the rest of its scripts."""
    shd, dvs, static = (preset(task, "rpsu") for task in ("shd", "cifar10-dvs", "cifar10"))
    assert (shd.optimizer, shd.loss, shd.batch_size, shd.neuron_options["threshold"]) == ("sgd", "mse", 256, 0.3)
    assert (dvs.surrogate, dvs.options["steps"], dvs.warmup_epochs) == ("piecewise_linear", 10, 5)
    assert (static.surrogate, static.options["steps"], static.label_smoothing) == ("atan", 4, 0.1)
    assert static.neuron_options == {
        "threshold": 0.5,
        "bias": True,
        "reset_gain": 1.0,
        "fire_on": ">",
        "init": "kaiming",
    }


def test_fields_are_merged_into_the_file() -> None:
    recipe = preset("shd", "rpsu", options={"steps": 30}, neuron_options={"threshold": 0.2}, epochs=2, warmup_epochs=0)
    assert (recipe.options["steps"], recipe.options["binning"]) == (30, "paper")
    assert (recipe.neuron_options["threshold"], recipe.neuron_options["bias"]) == (0.2, True)
    assert (recipe.epochs, recipe.loss) == (2, "mse")


def test_what_there_is_not() -> None:
    with pytest.raises(InputError, match=r"task must be one of .*digits.*, got 'mnist'"):
        preset("mnist")
    with pytest.raises(InputError, match=r"a recipe has the fields task, .*; got clip"):
        preset("digits", clip=1)
    assert "digits-psn" not in RECIPES
    assert "mnist-psu" not in RECIPES
