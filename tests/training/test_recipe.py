import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.models import CAUSAL
from psu_deploy.training import Recipe
from psu_deploy.training.recipe import PREPARABLE

RATES = {"max_value": 1e9, "exclude_max": True}
recipes = st.builds(
    Recipe,
    neuron=st.sampled_from(list(CAUSAL)),
    hidden=st.integers(1, 16_384),
    dropout=st.floats(0, 1, exclude_max=True),
    epochs=st.integers(1, 100_000),
    batch_size=st.integers(1, 65_536),
    learning_rate=st.floats(0, exclude_min=True, **RATES),
    weight_decay=st.floats(0, **RATES),
    seed=st.integers(0, 2**32 - 1),
    levels=st.integers(1, 255),
    exponentials=st.integers(1, 64),
)


@given(recipes)
def test_json_gives_the_same_recipe_back(recipe: Recipe) -> None:
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_file_gives_the_same_recipe_back(tmp_path: Path) -> None:
    recipe = Recipe(neuron="psu", seed=3)
    assert Recipe.load(recipe.save(tmp_path / "recipe.json")) == recipe


def test_json_names_every_argument() -> None:
    keys = json.loads(Recipe().to_json()).keys()
    assert list(keys) == ["format", "version", *(field.name for field in fields(Recipe))]


VERSION_1 = """{
  "format": "psu-deploy.recipe",
  "version": 1,
  "task": "digits",
  "neuron": "ipsu",
  "hidden": 64,
  "dropout": 0.1,
  "epochs": 12,
  "batch_size": 32,
  "learning_rate": 0.01,
  "weight_decay": 0.05,
  "seed": 4
}
"""
"""As it was written before networks were prepared for a target."""


def test_reads_a_recipe_of_version_1() -> None:
    expected = Recipe("digits", "ipsu", 64, 0.1, 12, 32, 0.01, 0.05, 4)
    assert Recipe.from_json(VERSION_1) == expected
    assert (expected.deploy_for, expected.tuning_epochs) == (None, 0)


@pytest.mark.parametrize("neuron", PREPARABLE)
def test_json_gives_a_recipe_for_a_target_back(neuron: str) -> None:
    recipe = Recipe(neuron=neuron, deploy_for="nir", levels=7, exponentials=2)
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("neuron", PREPARABLE)
def test_a_recipe_for_lava(neuron: str) -> None:
    """It keeps matrices and has a table of its own: no number of steps or exponentials means anything to it."""
    recipe = Recipe(neuron=neuron, deploy_for="lava")
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert (recipe.sums, Recipe(deploy_for="nir", exponentials=2).sums) == (None, 2)
    for other in ({"levels": 7}, {"exponentials": 2}):
        with pytest.raises(InputError, match=r"levels and exponentials are for nir; .* leave them at 15 and 4, got"):
            Recipe(neuron=neuron, deploy_for="lava", **other)


@pytest.mark.parametrize(("epochs", "tuning"), [(1, 1), (30, 30)])
def test_fine_tuning_takes_just_as_long(epochs: int, tuning: int) -> None:
    assert Recipe(epochs=epochs, deploy_for="nir").tuning_epochs == tuning


def test_a_neuron_that_cannot_be_prepared() -> None:
    message = "neuron, for nir, must be one of psu, ipsu, .*plif, got 'spsn'"
    with pytest.raises(InputError, match=message):
        Recipe(neuron="spsn", deploy_for="nir")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("task", "mnist", "task must be one of .*digits.*, got 'mnist'"),
        ("neuron", "psn", "neuron must be one of psu, ipsu, .* got 'psn'"),
        ("neuron", ["psu"], "neuron must be one of"),
        ("hidden", 0, "hidden must be a whole number of at least 1, got 0"),
        ("epochs", 0, "epochs must be a whole number of at least 1, got 0"),
        ("epochs", 2.0, "epochs must be a whole number"),
        ("batch_size", True, "batch_size must be a whole number"),
        ("batch_size", "64", "batch_size must be a whole number"),
        ("seed", -1, "seed must be a whole number of at least 0, got -1"),
        ("dropout", 1.0, "dropout must be a number at least 0 and below 1, got 1.0"),
        ("learning_rate", 0, "learning_rate must be a number above 0, got 0"),
        ("learning_rate", float("nan"), "learning_rate must be a number above 0, got nan"),
        ("learning_rate", float("inf"), "learning_rate must be a number above 0, got inf"),
        ("weight_decay", -0.1, "weight_decay must be a number at least 0, got -0.1"),
        ("weight_decay", None, "weight_decay must be a number at least 0, got None"),
        ("deploy_for", "loihi", "deploy_for must be one of nir, lava, got 'loihi'"),
        ("deploy_for", "", "deploy_for must be one of nir, lava, got ''"),
        ("levels", 0, "levels must be a whole number of at least 1, got 0"),
        ("levels", 256, "levels must be at most 255, got 256"),
        ("exponentials", 0, "exponentials must be a whole number of at least 1, got 0"),
        ("exponentials", None, "exponentials must be a whole number of at least 1, got None"),
    ],
)
def test_refuses_a_value(name: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**{name: value})
    text = json.dumps(json.loads(Recipe().to_json()) | {name: value})
    with pytest.raises(ArtifactError, match=f"the recipe is malformed: {message}"):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": 0.9}, r"missing \[\], unknown \['clip'\]"),
        ({"seed": ...}, r"missing \['seed'\], unknown \[\]"),
        ({"format": "psu-deploy.machine"}, "has format and version"),
        ({"version": 4}, "has format and version"),
        ({"version": 1}, r"missing \[\], unknown \['augment', 'deploy_for', 'exponentials', .*'levels', .*\]"),
        ({"levels": ...}, r"missing \['levels'\], unknown \[\]"),
    ],
)
def test_refuses_other_keys(change: dict[str, object], message: str) -> None:
    values = json.loads(Recipe().to_json()) | change
    text = json.dumps({key: value for key, value in values.items() if value is not ...})
    with pytest.raises(ArtifactError, match=message):
        Recipe.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000])
def test_refuses_other_text(text: str) -> None:
    with pytest.raises(ArtifactError, match="the recipe is malformed"):
        Recipe.from_json(text)


def test_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read the recipe .*: No such file"):
        Recipe.load(tmp_path / "recipe.json")
    with pytest.raises(ArtifactError, match=r"cannot read the recipe .*: Is a directory"):
        Recipe.load(tmp_path)
    (tmp_path / "recipe.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match="it is not UTF-8 text"):
        Recipe.load(tmp_path / "recipe.json")
