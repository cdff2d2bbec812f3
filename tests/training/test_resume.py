import errno
import os
import pickle
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.training import Recipe, RunResult, load_run, train
from psu_deploy.training.module import Classifier

RECIPE = Recipe(hidden=8, epochs=3)


def quick(folder: Path, recipe: Recipe = RECIPE, **options: Any) -> RunResult:
    return train(recipe, folder, device="cpu", progress=False, pictures=False, **options)


def epochs_done(folder: Path) -> int:
    return int(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]) + 1


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was ended by Ctrl-C in the middle of its third epoch."""
    step = Classifier.training_step

    def until(self: Classifier, batch: Any, index: int) -> torch.Tensor:
        if (self.current_epoch, index) == (2, 5):
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", until)
        with pytest.raises(KeyboardInterrupt):
            quick(tmp_path / "interrupted")
    return tmp_path / "interrupted"


def test_an_interrupted_run_goes_on_as_if_it_had_never_stopped(interrupted: Path, tmp_path: Path) -> None:
    result = quick(interrupted, resume=True)
    whole = quick(tmp_path / "whole")
    assert (epochs_done(interrupted), result.epochs) == (3, 3)
    assert (result.test_accuracy, result.validation_accuracy) == (whole.test_accuracy, whole.validation_accuracy)
    resumed, expected = (load_file(path / "weights.safetensors") for path in (interrupted, tmp_path / "whole"))
    assert all(np.array_equal(resumed[name], expected[name]) for name in expected)


def test_resuming_trains_only_what_is_left(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = []
    monkeypatch.setattr(Classifier, "on_train_epoch_start", lambda self: epochs.append(self.current_epoch))
    quick(interrupted, resume=True)
    assert epochs == [2]


def test_an_interrupted_run_keeps_its_checkpoint_and_is_not_finished(interrupted: Path) -> None:
    assert sorted(path.name for path in interrupted.iterdir()) == ["checkpoints", "log.csv", "recipe.json"]
    assert epochs_done(interrupted) == 2
    with pytest.raises(ArtifactError, match="is not finished"):
        load_run(interrupted)
    with pytest.raises(InputError, match="pass resume=True to continue it"):
        quick(interrupted)


def test_the_learning_rate_falls_along_half_a_cosine(interrupted: Path) -> None:
    checkpoint = torch.load(interrupted / "checkpoints" / "last.ckpt", weights_only=True)
    two_thirds_of_the_way = RECIPE.learning_rate * (1 + np.cos(2 / 3 * np.pi)) / 2
    assert checkpoint["lr_schedulers"][0]["_last_lr"] == pytest.approx([two_thirds_of_the_way])


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_works_as_before_after_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_who_ignores_ctrl_c_is_not_interrupted_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell makes it for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(Classifier, "on_train_epoch_start", lambda self: os.kill(os.getpid(), signal.SIGINT))
    assert quick(tmp_path, replace(RECIPE, epochs=1)).epochs == 1
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_finished_run_can_be_given_more_epochs(trained: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained.folder, tmp_path / "run"))
    longer = replace(trained.recipe, epochs=3)
    assert quick(folder, longer, resume=True).epochs == 3
    assert epochs_done(folder) == 3
    assert load_run(folder).recipe == longer


def test_resuming_a_finished_run_changes_nothing(trained: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained.folder, tmp_path / "run"))
    assert quick(folder, trained.recipe, resume=True).test_accuracy == trained.result.test_accuracy
    before, after = (load_file(path / "weights.safetensors") for path in (trained.folder, folder))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_run_that_goes_on_is_not_finished_until_it_is(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(trained.folder, tmp_path / "run"))
    monkeypatch.setattr("psu_deploy.training.run._fit", lambda *_: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        quick(folder, trained.recipe, resume=True)
    with pytest.raises(ArtifactError, match="is not finished"):
        load_run(folder)
    assert epochs_done(folder) == 2


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(interrupted: Path, tmp_path: Path) -> None:
    (interrupted / "checkpoints" / "last.ckpt").unlink()
    quick(interrupted, resume=True)
    quick(tmp_path / "whole")
    resumed, expected = (load_file(path / "weights.safetensors") for path in (interrupted, tmp_path / "whole"))
    assert all(np.array_equal(resumed[name], expected[name]) for name in expected)


def test_without_a_checkpoint_too_the_recipe_must_be_its_own(interrupted: Path) -> None:
    (interrupted / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(InputError, match="seed 0 became 1; resume it with its own recipe"):
        quick(interrupted, replace(RECIPE, seed=1), resume=True)


def test_a_full_disk_costs_nothing_when_a_run_goes_on(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run that was to be given more epochs is what it was."""
    folder = Path(shutil.copytree(trained.folder, tmp_path / "run"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ArtifactError, match=r"recipe\.json: No space left on device; the file that was there is as it"):
        quick(folder, replace(trained.recipe, epochs=3), resume=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


# -- what cannot be resumed ------------------------------------------------------------------------------------


def test_there_must_be_a_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"there is nothing to resume in .*; train without resume"):
        quick(tmp_path / "nowhere", resume=True)


def test_a_trained_network_whose_checkpoint_is_lost_is_not_trained_over(trained: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained.folder, tmp_path / "run"))
    (folder / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(ArtifactError, match=r"the checkpoint of the run in .* is lost.*overwrite=True"):
        quick(folder, trained.recipe, resume=True)
    assert load_run(folder).recipe == trained.recipe


def test_the_recipe_must_be_its_own(trained: Any) -> None:
    other = replace(trained.recipe, seed=1, batch_size=32)
    with pytest.raises(InputError, match="batch_size 64 became 32, seed 0 became 1; resume it with its own recipe"):
        quick(trained.folder, other, resume=True)


def test_epochs_cannot_be_taken_back(trained: Any) -> None:
    with pytest.raises(InputError, match="has done 2 epochs already, the recipe wants 1"):
        quick(trained.folder, replace(trained.recipe, epochs=1), resume=True)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
def test_a_malformed_checkpoint(interrupted: Path, content: bytes) -> None:
    (interrupted / "checkpoints" / "last.ckpt").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"last\.ckpt is truncated or is not a checkpoint"):
        quick(interrupted, resume=True)


def test_a_truncated_checkpoint(interrupted: Path) -> None:
    path = interrupted / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"last\.ckpt is truncated or is not a checkpoint"):
        quick(interrupted, resume=True)


@pytest.mark.parametrize("content", [[], {"epoch": 1}])
def test_some_other_torch_file(interrupted: Path, content: Any) -> None:
    torch.save(content, interrupted / "checkpoints" / "last.ckpt")
    with pytest.raises(ArtifactError, match=r"last\.ckpt is not the checkpoint of a run"):
        quick(interrupted, resume=True)


def test_a_checkpoint_of_another_network(interrupted: Path) -> None:
    path = interrupted / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"].popitem()
    torch.save(checkpoint, path)
    with pytest.raises(ArtifactError, match=r"last\.ckpt does not fit its recipe"):
        quick(interrupted, resume=True)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def plain_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, plain_pickle])
def test_a_checkpoint_cannot_run_code(interrupted: Path, save: Any, tmp_path: Path) -> None:
    save(Trap(tmp_path / "sprung"), interrupted / "checkpoints" / "last.ckpt")
    with pytest.raises(ArtifactError, match=r"last\.ckpt is truncated or is not a checkpoint"):
        quick(interrupted, resume=True)
    assert not (tmp_path / "sprung").exists()
