import json
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.models import CAUSAL
from psu_deploy.training import RECIPES, Recipe

WHOLE = st.integers(1, 10**6)
recipes = st.builds(
    Recipe,
    neuron=st.sampled_from(list(CAUSAL)),
    hidden=WHOLE,
    dropout=st.floats(0, 1, exclude_max=True),
    epochs=WHOLE,
    batch_size=WHOLE,
    learning_rate=st.floats(0, exclude_min=True, allow_infinity=False),
    weight_decay=st.floats(0, allow_infinity=False),
    seed=st.integers(0, 10**30),
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


def test_there_is_a_recipe_for_every_neuron() -> None:
    assert {name: recipe.neuron for name, recipe in RECIPES.items()} == {f"digits-{name}": name for name in CAUSAL}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("task", "mnist", "task must be one of digits, got 'mnist'"),
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
        ({"momentum": 0.9}, r"missing \[\], unknown \['momentum'\]"),
        ({"seed": ...}, r"missing \['seed'\], unknown \[\]"),
        ({"format": "psu-deploy.machine"}, "has format and version"),
        ({"version": 2}, "has format and version"),
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
