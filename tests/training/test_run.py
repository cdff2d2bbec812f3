import importlib
import json
import logging
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from psu_deploy import training
from psu_deploy.errors import InputError, MissingExtraError
from psu_deploy.machine import StateMachine
from psu_deploy.training import Recipe, load_run, train

FILES = {"recipe.json", "weights.safetensors", "model.psm", "metrics.json", "checkpoints/last.ckpt", "log.csv"}
PICTURES = {"curves.svg", "matrices.svg"}
QUICK = Recipe(hidden=8, epochs=1)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def quick(folder: Path, recipe: Recipe = QUICK, **options: Any) -> dict[str, np.ndarray]:
    train(recipe, folder, device="cpu", progress=False, pictures=False, **options)
    return load_file(folder / "weights.safetensors")


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_a_run_folder_holds_the_run_and_nothing_else(trained: Any) -> None:
    assert files_in(trained.folder) == FILES | PICTURES
    assert Recipe.load(trained.folder / "recipe.json") == trained.recipe
    assert json.loads((trained.folder / "metrics.json").read_text()) == asdict(trained.result)
    assert (trained.result.epochs, trained.result.device) == (2, "cpu")
    assert trained.result.seconds > 0


def test_nothing_is_written_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(QUICK, "runs/first", progress=False, pictures=False)
    assert files_in(tmp_path) == {f"runs/first/{name}" for name in FILES}
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_the_accuracies_are_those_of_the_weights_of_the_last_epoch(trained: Any) -> None:
    checkpoint = torch.load(trained.folder / "checkpoints" / "last.ckpt", weights_only=True)
    weights = load_file(trained.folder / "weights.safetensors")
    last = {name.removeprefix("model."): value.numpy() for name, value in checkpoint["state_dict"].items()}
    assert checkpoint["epoch"] == 1
    assert same(weights, last)
    x, labels = training.test_data(trained.recipe)
    hits = load_run(trained.folder).model(torch.from_numpy(x)).detach().numpy().argmax(1) == labels
    assert trained.result.test_accuracy == hits.mean()


def test_the_machine_is_the_trained_network(trained: Any) -> None:
    x = torch.from_numpy(training.test_data(trained.recipe)[0][:, :50])
    machine = StateMachine.load(trained.folder / "model.psm")
    logits = load_run(trained.folder).model(x).detach()
    # BatchNorm is folded into the layer before it, which rounds differently; a flipped spike would show as 1e-2.
    torch.testing.assert_close(machine.run(x)[-1], logits, rtol=0, atol=1e-4)


def test_training_learns(trained: Any) -> None:
    assert trained.result.test_accuracy > 0.3  # a guess is right one time in ten


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first = quick(tmp_path / "first")
    torch.manual_seed(77)
    assert same(first, quick(tmp_path / "second"))


def test_another_seed_begins_with_other_weights(tmp_path: Path) -> None:
    still = replace(QUICK, learning_rate=1e-30, weight_decay=0)
    first, second = quick(tmp_path / "first", still), quick(tmp_path / "second", replace(still, seed=1))
    assert not np.array_equal(first["layers.0.weight"], second["layers.0.weight"])


def test_the_caller_s_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quick(tmp_path / "run")
    load_run(tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_the_learning_rate_ends_at_zero(tmp_path: Path) -> None:
    recipe = replace(QUICK, epochs=3, batch_size=500)
    quick(tmp_path, recipe)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 9
    assert state["lr_schedulers"][0]["_last_lr"] == [0.0]
    assert state["optimizer_states"][0]["param_groups"][0]["initial_lr"] == recipe.learning_rate
    assert state["optimizer_states"][0]["param_groups"][0]["weight_decay"] == recipe.weight_decay


# -- what is in the way -----------------------------------------------------------------------------------------


def test_a_run_is_not_overwritten_unasked(tmp_path: Path) -> None:
    before = quick(tmp_path)
    with pytest.raises(InputError, match=r"there is a run in .* already; pass resume=True to continue it, overwrite"):
        quick(tmp_path, replace(QUICK, seed=1))
    assert same(before, load_file(tmp_path / "weights.safetensors"))
    assert not same(before, quick(tmp_path, replace(QUICK, seed=1), overwrite=True))
    assert files_in(tmp_path) == FILES


def test_overwriting_leaves_foreign_files(tmp_path: Path) -> None:
    quick(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    quick(tmp_path, overwrite=True)
    assert files_in(tmp_path) == FILES | {"notes.txt"}


def test_overwriting_begins_by_removing_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(tmp_path)
    monkeypatch.setattr("psu_deploy.training.run._fit", lambda *_: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        quick(tmp_path, overwrite=True)
    assert files_in(tmp_path) == {"recipe.json"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "weights.safetensors").write_text("mine")
    with pytest.raises(InputError, match="is not empty and not the folder of a run; name another folder"):
        quick(tmp_path, overwrite=overwrite)
    assert (tmp_path / "weights.safetensors").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match="is a file; name a folder"):
        quick(tmp_path / "run")


def test_resume_and_overwrite_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resume and overwrite exclude each other"):
        quick(tmp_path, resume=True, overwrite=True)


@pytest.mark.parametrize(("device", "message"), [("cuda", "torch sees no GPU"), ("tpu", "got 'tpu'"), (None, "None")])
def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Any, message: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        train(QUICK, tmp_path, device=device)
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_trains_on_a_gpu(tmp_path: Path) -> None:
    assert train(QUICK, tmp_path / "first", progress=False).device == "cuda"
    assert train(QUICK, tmp_path / "second", device="cuda", progress=False).device == "cuda"
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("first", "second"))
    assert same(first, second)


# -- what is said -----------------------------------------------------------------------------------------------


def test_nothing_is_said_without_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    quick(tmp_path)
    assert capsys.readouterr() == ("", "")
    assert caplog.records == []


def test_progress_is_shown_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    train(QUICK, tmp_path, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Epoch 0/0" in err
    assert "val_accuracy" in err
    assert caplog.records == []


def test_logging_and_warnings_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    for logger in loggers:
        monkeypatch.setattr(logger, "level", logging.INFO)
    filters = list(warnings.filters)
    quick(tmp_path)
    assert [logger.level for logger in loggers] == [logging.INFO] * 2
    assert list(warnings.filters) == filters


@pytest.mark.parametrize("module", ["lightning", "sklearn"])
def test_a_missing_extra_is_one_sentence(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "psu_deploy.training")
    with pytest.raises(MissingExtraError) as raised:
        importlib.import_module("psu_deploy.training")
    message = f"'{module}' is not installed; it comes with the 'train' extra: pip install \"psu-deploy[train]\""
    assert str(raised.value) == message


def test_a_lightning_that_does_not_import_is_one_sentence(tmp_path, monkeypatch):
    """It imports a torchvision where it finds one, and that of another torch raises RuntimeError."""

    def broken(module, extra):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("psu_deploy.training.run.require", broken)
    with pytest.raises(MissingExtraError, match=r"operator torchvision::nms does not exist; `psu-deploy doctor` says"):
        train(Recipe(epochs=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()
