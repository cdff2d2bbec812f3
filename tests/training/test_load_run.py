import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from psu_deploy import training
from psu_deploy.errors import ArtifactError
from psu_deploy.models import DigitsNet
from psu_deploy.training import Recipe, load_run


@pytest.fixture
def copy(trained: Any, tmp_path: Path) -> Path:
    """A finished run to spoil."""
    return Path(shutil.copytree(trained.folder, tmp_path / "copy"))


def test_gives_the_logits_of_the_trained_network(trained: Any) -> None:
    run = load_run(trained.folder)
    net = DigitsNet("rpsu", hidden=16)
    net.load_state_dict(load_file(trained.folder / "weights.safetensors"))
    net.eval()
    x = torch.from_numpy(training.test_data(trained.recipe)[0])
    assert run.recipe == trained.recipe
    assert torch.equal(run.model(x), net(x))


def test_gives_a_network_in_eval_mode(trained: Any) -> None:
    assert not any(module.training for module in load_run(str(trained.folder)).model.modules())


def test_needs_nothing_but_recipe_and_weights(copy: Path) -> None:
    for name in ("model.psm", "metrics.json", "checkpoints"):
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    load_run(copy)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtifactError, match=r"is not the folder of a run: there is no recipe\.json"):
            load_run(folder)


def test_a_run_that_is_not_finished(copy: Path) -> None:
    (copy / "weights.safetensors").unlink()
    with pytest.raises(ArtifactError, match="is not finished"):
        load_run(copy)


def test_a_malformed_recipe(copy: Path) -> None:
    (copy / "recipe.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"recipe\.json does not have exactly the keys"):
        load_run(copy)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_weights(copy: Path, length: int) -> None:
    weights = copy / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:length])
    with pytest.raises(ArtifactError, match=r"weights\.safetensors is truncated or is not a safetensors file"):
        load_run(copy)


def test_weights_of_another_network(copy: Path) -> None:
    Recipe(hidden=32).save(copy / "recipe.json")
    with pytest.raises(
        ArtifactError, match=r"weights\.safetensors does not fit its recipe: .*shape or dtype \['layers\.0"
    ):
        load_run(copy)


@pytest.mark.parametrize("name", ["layers.0.weight", "layers.1.num_batches_tracked", "layers.6.estimate.entries"])
@pytest.mark.parametrize("change", ["missing", "renamed", "float64", "reshaped"])
def test_weights_that_are_missing_or_different(copy: Path, name: str, change: str) -> None:
    path = copy / "weights.safetensors"
    weights = load_file(path)
    tensor = weights.pop(name)
    changed = {"renamed": {"x": tensor}, "float64": {name: tensor.double()}, "reshaped": {name: tensor[None]}}
    save_file(weights | changed.get(change, {}), path)
    with pytest.raises(ArtifactError, match=rf"does not fit its recipe: .*\['{re.escape(name)}'\]"):
        load_run(copy)


def test_weights_too_many(copy: Path) -> None:
    path = copy / "weights.safetensors"
    save_file(load_file(path) | {"layers.9.bias": torch.zeros(1)}, path)
    with pytest.raises(ArtifactError, match=r"does not fit its recipe: missing \[\], unknown \['layers\.9\.bias'\]"):
        load_run(copy)


def test_weights_that_cannot_be_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> dict[str, np.ndarray]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("psu_deploy.training.weights.load_file", refuse)
    with pytest.raises(ArtifactError, match=r"cannot read .*weights\.safetensors: Permission denied"):
        load_run(copy)
