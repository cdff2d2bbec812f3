"""A trained network made deployable in one call: what it gives, what it refuses, and how it goes on."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch.nn import functional as F

import psu_deploy as psu
from psu_deploy.errors import ArtifactError, InputError
from psu_deploy.machine import StateMachine
from psu_deploy.nn.neurons import SpikingUnit, Staircase
from psu_deploy.training import Recipe, TuneResult, load_run, train, tune
from psu_deploy.training.distillation import distilling, flip_rate
from psu_deploy.training.module import Classifier

pytestmark = pytest.mark.full


def quick(source: Path, out: Path, target: str = "nir", **options: Any) -> TuneResult:
    arguments = {"epochs": 2, "levels": 7, "exponentials": 2} if target == "nir" else {"epochs": 2}
    return tune(source, target, out, device="cpu", progress=False, **arguments, **options)


def moved(run: Path, copy: Path, name: str, by: float) -> Path:
    """A run with another number among its weights."""
    shutil.copytree(run, copy)
    weights = load_file(copy / "weights.safetensors")
    weights[name].flat[0] += by
    save_file(weights, copy / "weights.safetensors")
    return copy


@pytest.fixture(scope="module")
def tuned(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TuneResult]:
    """Look, don't touch."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return folder, quick(trained.folder / "model.psm", folder)


def test_the_file_is_the_tuned_network(tuned: tuple[Path, TuneResult], trained: Any) -> None:
    folder, result = tuned
    assert result.report.ok
    assert result.artifact.path == folder / "model.nir"
    assert result.artifact.machine_hash == StateMachine.load(folder / "model.psm").content_hash
    assert result.original_accuracy == trained.result.test_accuracy
    run = load_run(folder)
    units = [module for module in run.model.modules() if isinstance(module, SpikingUnit)]
    assert all(isinstance(unit.estimator, Staircase) and unit.horizon is None for unit in units)
    assert (run.recipe.deploy_for, run.recipe.epochs, run.recipe.levels) == ("nir", 2, 7)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["tuned_accuracy"] == result.tuned_accuracy
    assert metrics["verdict"].startswith("EQUIVALENT")
    assert {"tuned.csv", "tuned.svg", "tune.json"} <= {path.name for path in folder.iterdir()}


def test_the_flips_are_those_of_the_spikes(tuned: tuple[Path, TuneResult], trained: Any) -> None:
    """Counted again, on the machines, without a module."""
    folder, result = tuned
    x = psu.training.test_data(trained.recipe, samples=256)[0]
    first, second = (StateMachine.load(path / "model.psm").trace(x).spikes for path in (trained.folder, folder))
    differ = sum(int((first[name] != second[name]).sum()) for name in first)
    assert result.tuned_flips == pytest.approx(differ / sum(spikes.size for spikes in first.values()), abs=1e-5)
    assert 0 < result.prepared_flips < 0.5


def test_a_run_folder_is_its_machine(tuned: tuple[Path, TuneResult], trained: Any, tmp_path: Path) -> None:
    """And a machine that was carried away knows its recipe and its weights."""
    carried = shutil.copy(trained.folder / "model.psm", tmp_path / "carried.psm")
    quick(Path(carried), tmp_path / "a")
    quick(trained.folder, tmp_path / "b")
    expected = load_file(tuned[0] / "weights.safetensors")
    for folder in (tmp_path / "a", tmp_path / "b"):
        found = load_file(folder / "weights.safetensors")
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_for_lava(trained: Any, tmp_path: Path) -> None:
    result = quick(trained.folder, tmp_path / "run", "lava")
    assert result.artifact.path.suffix == ".net"
    assert result.report.ok


def test_who_is_interrupted_goes_on(
    tuned: tuple[Path, TuneResult], trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Classifier.training_step

    def until(self: Classifier, batch: Any, index: int) -> torch.Tensor:
        if (self.current_epoch, index) == (1, 5):
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", until)
        with pytest.raises(KeyboardInterrupt):
            quick(trained.folder, tmp_path / "run")
    with pytest.raises(InputError, match=r"there is a run in .* already"):
        quick(trained.folder, tmp_path / "run")
    with pytest.raises(InputError, match=r"run was begun with .*: distillation 0\.5 became 0\.1; resume it"):
        quick(trained.folder, tmp_path / "run", resume=True, distillation=0.1)
    with pytest.raises(InputError, match=r"arguments: epochs 2 became 3, levels 7 became 15, exponentials 2"):
        tune(trained.folder, "nir", tmp_path / "run", epochs=3, progress=False, resume=True)
    with pytest.raises(InputError, match=r"deploy_for 'nir' became 'lava'"):
        quick(trained.folder, tmp_path / "run", "lava", resume=True)
    another = moved(trained.folder, tmp_path / "another", "layers.0.weight", 1.0)
    with pytest.raises(InputError, match=r"source has other weights \(the sum of layers\.0\.weight was \S+, is \S+\)"):
        quick(another, tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    quick(trained.folder, tmp_path / "run", resume=True)
    found, expected = (load_file(path / "weights.safetensors") for path in (tmp_path / "run", tuned[0]))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("notes", ["", "[]", "{}", '{"distillation": 0.5, "source": 3}'])
def test_malformed_notes(tuned: tuple[Path, TuneResult], trained: Any, tmp_path: Path, notes: str) -> None:
    folder = Path(shutil.copytree(tuned[0], tmp_path / "run"))
    (folder / "tune.json").write_text(notes)
    with pytest.raises(ArtifactError, match=r"tune\.json is malformed \(.*\); begin anew with overwrite=True"):
        quick(trained.folder, folder, resume=True)
    assert load_run(folder).recipe == load_run(tuned[0]).recipe


def test_what_cannot_be_tuned(tuned: tuple[Path, TuneResult], trained: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is prepared for nir already"):
        quick(tuned[0] / "model.psm", tmp_path / "run")
    psu.to_state_machine(load_run(trained.folder).model, (8,)).save(tmp_path / "bare.psm")
    with pytest.raises(ArtifactError, match=r"bare\.psm holds a machine but not the module it was made of"):
        quick(tmp_path / "bare.psm", tmp_path / "run")
    with pytest.raises(InputError, match="deploy_for must be one of nir, lava, got 'onnx'"):
        tune(trained.folder, "onnx", tmp_path / "run", progress=False)
    with pytest.raises(InputError, match=r"distillation must be a number in 0\.\.1, got 2"):
        quick(trained.folder, tmp_path / "run", distillation=2)
    for source in (trained.folder, trained.folder / "model.psm"):
        with pytest.raises(InputError, match="is the folder of the network that is tuned, which would be lost"):
            quick(source, trained.folder, overwrite=True)
    assert load_run(trained.folder).recipe == trained.recipe
    with pytest.raises(ArtifactError, match="there is nothing to resume"):
        quick(trained.folder, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_network_that_fires_at_random_is_refused(tmp_path: Path) -> None:
    train(Recipe(neuron="spsn", hidden=4, epochs=1), tmp_path / "spsn", progress=False, pictures=False)
    with pytest.raises(InputError, match="neuron, for nir, must be one of"):
        quick(tmp_path / "spsn", tmp_path / "run")


# -- the loss ---------------------------------------------------------------------------------------------------


def test_the_loss_is_the_one_of_the_paper() -> None:
    teacher = torch.nn.Linear(3, 4)
    x, labels = torch.randn(5, 3), torch.randint(4, (5,))
    logits = torch.randn(5, 4, requires_grad=True)
    wanted = teacher(x).detach().double()
    mine, theirs = (y.double() / 2 for y in (logits.detach(), wanted))
    divergence = (theirs.softmax(1) * (theirs.log_softmax(1) - mine.log_softmax(1))).sum(1).mean()
    expected = 0.7 * F.cross_entropy(logits.detach().double(), labels) + 0.3 * 4 * divergence
    loss = distilling(teacher, Recipe(), 0.3)(x, logits, labels)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    square = 0.7 * ((logits - torch.eye(4)[labels]) ** 2).mean() + 0.3 * ((logits - wanted) ** 2).mean()
    assert float(distilling(teacher, Recipe(loss="mse"), 0.3)(x, logits, labels).detach()) == pytest.approx(
        float(square.detach()), rel=1e-5
    )


def test_a_network_is_like_itself() -> None:
    net = psu.SpikingSequential(torch.nn.Linear(3, 4), psu.PSU(threshold=0.1))
    never = psu.SpikingSequential(torch.nn.Linear(3, 4), psu.PSU(threshold=1e9))
    x = np.random.default_rng(0).standard_normal((6, 100, 3)).astype(np.float32)
    assert flip_rate(net, net, x) == 0
    with torch.no_grad():
        assert flip_rate(net, never, x) == pytest.approx(float(net(torch.from_numpy(x)).mean()), abs=1e-6)
