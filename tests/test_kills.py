"""Killed at any moment: every file that is there is whole, the next run succeeds, and nothing else is left.

PSU_DEPLOY_KILLS says how often each; once unless it does.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import psu_deploy as psu
from psu_deploy.files.temporaries import is_temporary
from psu_deploy.training import Recipe, load_run
from tests.importers.published import SHDNet
from tests.killing import Server
from tests.training.data.published import write_n_mnist

KILLS = int(os.environ.get("PSU_DEPLOY_KILLS", "1"))

pytestmark = [pytest.mark.full, pytest.mark.timeout(120 + 40 * KILLS)]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """Of all processes that are killed; nothing of theirs is in the system's temporary folder at the end."""
    folder = tmp_path_factory.mktemp("killing")
    (folder / "tmp").mkdir()
    server = Server(folder / "tmp", folder / "log")
    yield server
    server.close()
    # Torch and onnxruntime keep caches there, of names of their own.
    assert not [path for path in (folder / "tmp").iterdir() if is_temporary(path) or path.name.startswith("tmp")]


LOADERS: dict[str, Callable[[Path], object]] = {
    ".psm": psu.StateMachine.load,
    ".onnx": psu.load,
    ".nir": psu.load,
    ".net": lambda path: psu.load(path, simulator="integer"),
    ".c": lambda path: path.stem.endswith("_weights") or psu.load(path, compiled=False),
    ".h": Path.read_text,
    ".md": Path.read_text,
    ".npy": np.load,
    ".ckpt": lambda path: torch.load(path, weights_only=True),
    ".safetensors": load_file,
    ".json": lambda path: json.loads(path.read_text()),
    ".csv": lambda path: list(csv.DictReader(path.read_text().splitlines(), strict=True)),
    ".svg": ET.parse,
}


def assert_whole(folder: Path) -> None:
    """Every file under its final name can be read; no file has a name that is neither final nor temporary."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(map(is_temporary, path.parents)):
            LOADERS[path.suffix](path)


def leftovers(folder: Path) -> list[Path]:
    """Of files that were being written, here or one folder below."""
    return [path for place in (folder, folder / "checkpoints") for path in place.glob(".*-unfinished")]


def kills(server: Server, folder: Path, seconds: float) -> Iterator[Callable[[str], object]]:
    """Kill at any moment of a run that takes so long, then at any moment after a file of it is begun, and so on."""
    drawn = random.Random(0)
    for k in range(KILLS):
        if k % 2:
            yield partial(server.kill, after=drawn.uniform(0, 0.01), once=lambda: any(leftovers(folder)))
        else:
            yield partial(server.kill, after=drawn.uniform(0, 1.05 * seconds))


def command(*words: object) -> str:
    return f"import sys; sys.argv = {['psu-deploy', *map(str, words)]!r}; from psu_deploy.cli import main; main()"


def saved(path: Path, neuron: nn.Module, seed: int, hidden: int) -> Path:
    torch.manual_seed(seed)
    model = psu.SpikingSequential(nn.Linear(16, hidden), neuron, nn.Linear(hidden, hidden), nn.Linear(hidden, 4))
    return psu.to_state_machine(model, (16,)).save(path)


WRITTEN = {
    "onnx": {"model.onnx"},
    "nir": {"model.nir"},
    "lava": {"model.net"},
    "c": {"model.c", "model.h", "model_weights.c", "model.md"},
}
"""Target -> what an export to it writes, as far as it is of one network."""


class TestOneExport:
    """Written again and again, from two networks in turn."""

    def check(self, server: Server, folder: Path, outs: set[str], runs: list[str]) -> None:
        """Code that writes files that belong together; once they are opened, all of them are of one of the runs."""

        def written() -> dict[str, bytes]:
            return {name: (folder / name).read_bytes() for name in outs}

        contents = []
        for run in (*runs, runs[0]):
            seconds = server.run(run)
            contents.append(written())
        assert all(contents[0][name] != contents[1][name] for name in outs)
        assert contents[0] == contents[2]
        names = sorted(path.name for path in folder.iterdir())
        for k, kill in enumerate(kills(server, folder, seconds)):
            kill(runs[k % 2])
            assert_whole(folder)
            assert written() in contents
            server.run(runs[(k + 1) % 2])
            assert written() == contents[(k + 1) % 2]
            assert sorted(path.name for path in folder.iterdir()) == names

    def test_machine(self, server, tmp_path):
        folder, sources = tmp_path / "out", [tmp_path / "a.psm", tmp_path / "b.psm"]
        for seed, path in enumerate(sources):
            saved(path, psu.PSU(), seed, hidden=800)
        runs = [
            f"import psu_deploy as psu; psu.StateMachine.load({str(path)!r}).save({str(folder / 'net.psm')!r})"
            for path in sources
        ]
        self.check(server, folder, {"net.psm"}, runs)

    def test_import(self, server, tmp_path):
        folder, sources = tmp_path / "out", [tmp_path / "a.pth.tar", tmp_path / "b.pth.tar"]
        for seed, path in enumerate(sources):
            SHDNet("rpsu", 5, seed=seed).make().save(path)
        runs = [command("import", path, "--out", folder / "net.psm") for path in sources]
        self.check(server, folder, {"net.psm"}, runs)

    @pytest.mark.parametrize("target", ["onnx", "nir", "lava", "c"])
    def test_export(self, server, tmp_path, target):
        folder, sources = tmp_path / "out", [tmp_path / "a.psm", tmp_path / "b.psm"]
        for seed, path in enumerate(sources):
            hidden = {"onnx": 300, "nir": 64, "lava": 16, "c": 16}[target]
            saved(path, psu.LIF(2.0) if target == "nir" else psu.PSU(), seed, hidden)
        np.save(tmp_path / "x.npy", np.random.default_rng(0).random((6, 4, 16)).astype(np.float32))
        options = ("--calibrate", tmp_path / "x.npy") if target == "lava" else ()
        runs = [command("export", path, "--to", target, *options, "--out", folder) for path in sources]
        self.check(server, folder, WRITTEN[target], runs)


def training(recipe: Recipe, folder: Path, **options: bool) -> str:
    return (
        "from psu_deploy.training import Recipe, train\n"
        f"train({recipe!r}, {str(folder)!r}, device='cpu', progress=False, pictures=False, **{options!r})"
    )


@pytest.mark.nightly
@pytest.mark.parametrize("deploy_for", [None, "nir"])
def test_training_and_tuning(server, tmp_path, deploy_for):
    """Who goes on gets the very weights that would have been there."""
    recipe = Recipe(neuron="psu", hidden=8, epochs=2, batch_size=400, deploy_for=deploy_for)
    whole, folder = tmp_path / "whole", tmp_path / "run"
    server.run(training(recipe, whole))
    seconds = server.run(training(recipe, whole, overwrite=True))
    expected = load_file(whole / "weights.safetensors")
    names = sorted(path.name for path in whole.rglob("*"))
    for k, kill in enumerate(kills(server, folder, seconds)):
        again = k % 4 > 1  # over the run before, else from nothing
        if folder.exists() and not again:
            shutil.rmtree(folder)
        kill(training(recipe, folder, overwrite=again))
        assert_whole(folder)
        server.run(training(recipe, folder, resume=(folder / "recipe.json").exists()))
        found = load_file(folder / "weights.safetensors")
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
        assert sorted(path.name for path in folder.rglob("*")) == names
        assert load_run(folder).recipe == recipe
        assert not leftovers(folder)


@pytest.mark.nightly
@pytest.mark.parametrize("target", ["nir", "lava"])
def test_tuning(server, tmp_path, target):
    """The same of a network that is made deployable: weights, machine and the exported file."""
    source, whole, folder = tmp_path / "source", tmp_path / "whole", tmp_path / "run"
    server.run(training(Recipe(neuron="psu", hidden=8, epochs=2, batch_size=400), source))

    def tuning(out: Path, **options: bool) -> str:
        return (
            "from psu_deploy.training import tune\n"
            f"tune({str(source)!r}, {target!r}, {str(out)!r}, device='cpu', progress=False, **{options!r})"
        )

    server.run(tuning(whole))
    seconds = server.run(tuning(whole, overwrite=True))
    expected = load_file(whole / "weights.safetensors")
    names = sorted(path.name for path in whole.rglob("*"))
    for k, kill in enumerate(kills(server, folder, seconds)):
        if folder.exists() and k % 4 < 2:
            shutil.rmtree(folder)
        kill(tuning(folder, overwrite=k % 4 > 1))
        assert_whole(folder)
        server.run(tuning(folder, resume=(folder / "recipe.json").exists()))
        found = load_file(folder / "weights.safetensors")
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
        assert sorted(path.name for path in folder.rglob("*")) == names
        assert not leftovers(folder)


def test_the_cache_of_a_data_set(server, tmp_path):
    """What recordings become: there, and right, or not there."""
    write_n_mnist(tmp_path / "data", per_class=20)
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    reading = (
        "import os; from pathlib import Path\n"
        f"os.environ['PSU_DEPLOY_CACHE'] = {str(cache)!r}\n"
        "from psu_deploy.training.registry import make_task\n"
        f"make_task('n-mnist', {{}}).read('train', Path({str(tmp_path / 'data')!r}))"
    )

    def kept() -> dict[str, bytes]:
        """Without what a dead writer left, which nobody reads."""
        return {path.name: path.read_bytes() for path in cache.rglob("*.npy") if not is_temporary(path.parent)}

    server.run(reading)
    contents = kept()
    assert contents
    shutil.rmtree(cache / "frames")
    seconds = server.run(reading)
    for k, kill in enumerate(kills(server, cache / "frames", seconds)):
        if k % 2 == 0:
            shutil.rmtree(cache / "frames")
        kill(reading)
        assert kept() in ({}, contents)
        server.run(reading)
        assert kept() == contents
        assert not leftovers(cache / "frames")
