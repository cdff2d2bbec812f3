"""Every recipe trains two epochs on files in the published layout, and its machine is exported and proven."""

from functools import partial
from pathlib import Path

import pytest

import psu_deploy as psu
from psu_deploy.training import Recipe, load_run, preset, test_data, train
from psu_deploy.training.catalogue import CATALOGUE, events, images, windowed
from tests.training.data.test_catalogue import WRITE

test_data.__test__ = False  # type: ignore[attr-defined]  it is no test

SMALL = {"shd": {"hidden": 24}, "digits": {"hidden": 24}, "digits-pixels": {"hidden": 8}}
SMALL |= {"delayed-recall": {"hidden": 8, "options": {"samples": 60, "delay": 6}}}
SMALL |= {"random-manifolds": {"hidden": 8, "options": {"samples": 100, "steps": 12}}}
"""What of a recipe is smaller here than it should be."""

WIDTHS = (4,) * 8
WINDOWED = {"image_channels": 3, "size": 32, "dims": (8, 8), "depths": (1, 1)}


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of the papers with four channels."""
    monkeypatch.setattr(images, "CIFARNet", partial(images.CIFARNet, widths=WIDTHS))
    monkeypatch.setattr(images, "SequentialCIFARNet", partial(images.SequentialCIFARNet, channels=4, hidden=8))
    monkeypatch.setattr(windowed, "WindowedSNN", lambda **sizes: psu.models.WindowedSNN(**{**WINDOWED, **sizes}))
    monkeypatch.setattr(
        events, "VGGSNN", lambda *args, **sizes: psu.models.VGGSNN(*args, **{**sizes, "widths": WIDTHS})
    )


@pytest.mark.full
@pytest.mark.rows(len(CATALOGUE))
@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("task", CATALOGUE)
def test_two_epochs(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSU_DEPLOY_CACHE", str(tmp_path / "cache"))
    data = None
    if task in WRITE:
        data = tmp_path / "data"
        data.mkdir()
        WRITE[task](data)
    recipe = preset(task, epochs=2, batch_size=32, **SMALL.get(task, {}))
    result = train(recipe, tmp_path / "run", data=data, device="cpu", progress=False, pictures=False)
    assert result.epochs == 2
    assert Recipe.load(tmp_path / "run" / "recipe.json") == recipe
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert len(rows) == 3
    x = test_data(recipe, data, samples=4)[0]
    run = load_run(tmp_path / "run")
    artifact = psu.export(psu.StateMachine.load(tmp_path / "run" / "model.psm"), tmp_path / "model.onnx")
    report = psu.verify(run.model, artifact, x, allow_silent=True)
    assert report.ok, report.verdict
