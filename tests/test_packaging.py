"""The wheel: everything of ours under psu_deploy, nothing beside it, and it works on its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

import psu_deploy as psu

ROOT = Path(__file__).parents[1]
FOLDERS = ("psu_deploy", "exporters", "models")
"""Of the checkout; the last two are links in the first."""

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout: a build leaves files behind, and takes along what earlier builds left."""
    pytest.importorskip("setuptools", minversion="77", reason="builds without isolation")
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    return source


def build(source, out):
    """The wheel of a folder."""
    words = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    subprocess.run([sys.executable, "-m", *words], cwd=source, check=True, timeout=240)
    (built,) = out.glob("*.whl")
    return built


def checksums(archive):
    return {one.filename: one.CRC for one in archive.infolist()}


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    with zipfile.ZipFile(build(source, tmp_path_factory.mktemp("wheel"))) as archive:
        yield archive


def test_nothing_is_installed_beside_us(wheel):
    """A top-level package called `models` or `exporters` would be in everybody's way."""
    assert {name.split("/")[0] for name in wheel.namelist()} == {
        "psu_deploy",
        f"psu_deploy-{psu.__version__}.dist-info",
    }


def test_every_module_is_in_it(wheel):
    places = {"psu_deploy": "psu_deploy", "exporters": "psu_deploy/exporters", "models": "psu_deploy/models"}
    expected = {
        f"{places[folder]}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in wheel.namelist() if name.endswith(".py")} == expected
    assert "psu_deploy/py.typed" in wheel.namelist()
    templates = {
        f"psu_deploy/report/templates/{path.name}" for path in (ROOT / "psu_deploy/report/templates").iterdir()
    }
    assert templates < set(wheel.namelist())


def test_a_source_distribution_holds_what_the_links_lead_to(source, wheel, tmp_path):
    """And no link: its wheel is the same, byte for byte."""
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, timeout=240, capture_output=True)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (tmp_path / "again").mkdir()
    with zipfile.ZipFile(build(unpacked, tmp_path / "again")) as again:
        assert {one.filename: one.CRC for one in again.infolist()} == {
            one.filename: one.CRC for one in wheel.infolist()
        }


@pytest.mark.parametrize("name", ["exporters", "models"])
def test_the_clone_is_what_is_imported(name):
    """Under one name: what tests patch in `psu_deploy.exporters` is what runs."""
    link = ROOT / "psu_deploy" / name
    assert link.is_symlink()
    assert link.resolve() == ROOT / name
    assert Path(getattr(psu, name).__file__).resolve().parent == ROOT / name


def test_metadata(wheel):
    folder = f"psu_deploy-{psu.__version__}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    assert (metadata["Name"], metadata["Version"]) == ("psu-deploy", psu.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"onnx", "train", "all", "dev"} <= set(metadata.get_all("Provides-Extra"))
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert {line.split(">")[0] for line in required} == {"msgspec", "numpy", "rich", "safetensors", "torch", "typer"}
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


def test_without_links(source, wheel, tmp_path):
    """In a .zip of the repository, or in git on Windows, a link is a small file that says where it leads."""
    copy = tmp_path / "without"
    shutil.copytree(source, copy, symlinks=True, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for name in ("exporters", "models"):
        (copy / "psu_deploy" / name).unlink()
        (copy / "psu_deploy" / name).write_text(f"../{name}")
    with zipfile.ZipFile(build(copy, tmp_path / "out")) as archive:
        assert checksums(archive) == checksums(wheel)
