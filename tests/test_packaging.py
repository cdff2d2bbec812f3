"""The wheel: everything of ours under psu_deploy, nothing beside it, and it works on its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

import psu_deploy as psu

ROOT = Path(__file__).parents[1]
SOURCES = {"psu_deploy": "psu_deploy", "psu_deploy/exporters": "exporters", "psu_deploy/models": "models"}
"""Folder in the wheel -> folder in the checkout."""

pytest.importorskip("setuptools", minversion="77", reason="builds without isolation")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: a build leaves files behind, and takes along what earlier builds left."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in SOURCES.values():
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        ".",
    ]
    subprocess.run(command, cwd=source, check=True, timeout=240)
    (built,) = out.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_nothing_is_installed_beside_us(wheel):
    """A top-level package called `models` or `exporters` would be in everybody's way."""
    assert {name.split("/")[0] for name in wheel.namelist()} == {
        "psu_deploy",
        f"psu_deploy-{psu.__version__}.dist-info",
    }


def test_every_module_is_in_it(wheel):
    """The packages are listed by hand in pyproject.toml."""
    expected = {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for place, folder in SOURCES.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in wheel.namelist() if name.endswith(".py")} == expected
    assert "psu_deploy/py.typed" in wheel.namelist()


def test_metadata(wheel):
    folder = f"psu_deploy-{psu.__version__}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    assert (metadata["Name"], metadata["Version"]) == ("psu-deploy", psu.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"onnx", "train", "all", "dev"} <= set(metadata.get_all("Provides-Extra"))
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert {line.split(">")[0] for line in required} == {"torch", "numpy", "safetensors", "typer", "rich"}
    entry_points = ConfigParser()
    entry_points.read_string(wheel.read(f"{folder}/entry_points.txt").decode())
    assert entry_points["console_scripts"]["psu-deploy"] == "psu_deploy.cli:main"
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()


SCRIPT = """
import sys
import torch
import psu_deploy as psu
import psu_deploy.cli, psu_deploy.models, psu_deploy.exporters.onnx.runner
model = psu.SpikingSequential(torch.nn.Linear(3, 4), psu.PSU(threshold=0.02))
artifact = psu.export(model, "net.onnx", input_shape=(3,))
assert psu.verify(model, artifact, torch.rand(5, 2, 3)).ok
files = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "psu_deploy"]
print(len({file for file in files if not file.startswith(sys.argv[1])}))
"""


def test_it_works_on_its_own(wheel, tmp_path):
    """Unpacked somewhere else, nothing of the checkout is imported."""
    site = tmp_path / "site"
    wheel.extractall(site)
    command = [sys.executable, "-c", SCRIPT, str(site)]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
