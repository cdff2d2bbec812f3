"""The documentation names everything there is, and its examples run."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.c import lower as c
from psu_deploy.exporters.nir.without_node import WITHOUT_NODE
from psu_deploy.exporters.onnx import lower as onnx
from psu_deploy.importers.neurons import FAMILIES
from psu_deploy.machine.ops import KINDS
from psu_deploy.nn.neurons import PSN, Neuron
from psu_deploy.training import registry
from psu_deploy.training.catalogue import CATALOGUE
from psu_deploy.training.networks import takes_neuron
from tests.following import follow
from tests.zoo import MACHINES, inputs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "neurons.md").read_text()
TASKS = (ROOT / "docs" / "data.md").read_text()


def test_every_neuron_has_a_row():
    table = PAGE.partition("\n\n`A[i, j]")[0]  # the first one
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    public = [getattr(psu, name) for name in psu.__all__]
    neurons = {kind.__name__ for kind in public if isinstance(kind, type) and issubclass(kind, Neuron | PSN)}
    assert set(rows) == neurons
    assert len(rows) == len(neurons)


def test_every_kind_of_checkpoint_is_named():
    for family in FAMILIES:
        assert " ".join(family.keys) == "" or any(set(cell.split()) == family.keys for cell in _cells()), family


def _cells():
    return [cell for row in PAGE.splitlines() if row.startswith("|") for cell in re.findall(r"`([^`]*)`", row)]


def test_every_task_has_a_row_that_is_true():
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in TASKS.splitlines() if row.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == list(CATALOGUE)
    for name, steps, features, classes, network, where, live in rows:
        task = registry.make_task(name.strip("`"), {})
        assert int(steps) == task.steps
        assert tuple(map(int, features.split(" x "))) == task.input_shape
        assert int(classes) == task.classes
        made = task.network("psu") if takes_neuron(task.network) else task.network()
        assert type(made).__name__ == re.split(r"\W", network)[0]
        assert (task.source is not None) == ("https://" in where or "that of" in where)
        assert (task.not_streamable is not None) == (live == 'with `binning="causal"`')
        for url in re.findall(r"\((https://.*?)\)", where):
            assert url in task.source


def test_nirs_page_says_what_its_table_refuses():
    page = (ROOT / "exporters" / "nir" / "README.md").read_text()
    kinds = {}
    for kind, refusal in WITHOUT_NODE.items():
        kinds.setdefault(refusal, []).append(kind.__name__)
    for refusal, names in kinds.items():
        assert f"| {', '.join(sorted(names))} | {refusal.reason} | {refusal.remedy} |\n" in page


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.full
def test_the_program_that_maps_its_weights(tmp_path):
    """As it stands there, compiled as it stands there."""
    part = (ROOT / "docs" / "c.md").read_text().partition("## Large networks")[2].partition("\n## ")[0]
    (program,) = re.findall(r"```c\n(.*?)```", part, re.DOTALL)
    (command,) = re.findall(r"^    (cc .*)", part, re.MULTILINE)
    machine = MACHINES["unfolded batch norm"]
    psu.export(machine, tmp_path / "net.c", target="c", weights_file="bin")
    (tmp_path / "main.c").write_text(program)
    subprocess.run(f"{command} -Wall -Wextra -Werror -o main", shell=True, cwd=tmp_path, check=True)
    x = inputs(machine, 6, 1)
    done = subprocess.run(["./main"], cwd=tmp_path, input=x.tobytes(), capture_output=True, check=True)
    expected = machine.run(x)
    np.testing.assert_allclose(np.frombuffer(done.stdout, "f4").reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
    (tmp_path / "net_weights.bin").write_bytes(b"short")
    assert subprocess.run(["./main"], cwd=tmp_path, input=b"", check=False).returncode == 1


@pytest.mark.full
@pytest.mark.parametrize("page", ["docs/neurons.md", "docs/training.md", "docs/gpu.md", "docs/c.md", "docs/proof.md"])
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    assert blocks(page)
    for example in blocks(page):
        exec(compile(example, page, "exec"), {})


FOLLOWED = {
    "start": (2, 5),
    "concepts": (1, 0),
    "verify": (1, 0),
    "quantisation": (2, 0),
    "serving": (5, 0),
    "own-network": (4, 3),
    "own-neuron": (4, 0),
    "own-op": (6, 0),
    "own-target": (2, 0),
    "own-data": (1, 2),
}
"""Page -> how many pieces of code and how many commands it has: what is not found is not followed."""


@pytest.fixture
def restored(monkeypatch):
    """What a page adds to tables of this process is gone afterwards: an op, a rule, a task, a plugin."""
    before = [(table, dict(table)) for table in (KINDS, c.RULES, c.VOCABULARY.layers, onnx._RULES)]
    before += [(onnx.VOCABULARY.layers, dict(onnx.VOCABULARY.layers)), (registry._REGISTERED, {})]
    yield
    for table, rows in before:
        table.clear()
        table.update(rows)
    for name in ("stripes", "psu_json"):
        sys.modules.pop(name, None)


@pytest.mark.full
@pytest.mark.rows(len(FOLLOWED))
@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(page, tmp_path, monkeypatch, restored):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    if "## Train" in (ROOT / "docs" / f"{page}.md").read_text():
        pytest.importorskip("lightning", reason="trains")
    (tmp_path / "out").mkdir()
    assert follow(ROOT / "docs" / f"{page}.md", tmp_path) == FOLLOWED[page]


def test_every_new_page_with_code_is_followed():
    listed = {*FOLLOWED, "neurons", "training", "gpu", "c"}
    with_code = {path.stem for path in (ROOT / "docs").glob("*.md") if "```python" in path.read_text()}
    assert with_code - listed - {"proof", "fuzz", "report"} == set()


@pytest.mark.full
def test_the_tutorial_runs_and_says_what_it_said(tmp_path):
    """Every verdict as it is stored, which is what the site shows."""
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    stored = verdicts(notebook)
    assert len(stored) == 4
    place = {"metadata": {"path": str(tmp_path)}}
    done = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    assert [verdict.partition(";")[0] for verdict in verdicts(done)] == [one.partition(";")[0] for one in stored]


def verdicts(notebook):
    printed = [out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", [])]
    return re.findall(r"^EQUIVALENT.*$", "".join(printed), re.MULTILINE)


@pytest.mark.full
def test_pictures_are_those_of_the_neurons(monkeypatch):
    """Drawn anew they are what lies there, but for a tenth of a pixel. Every neuron has one, and every page its own."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "pictures"))
    drawn = importlib.import_module("make").pictures()
    for name in ("make", "concepts", "responses", "drawing"):
        sys.modules.pop(name)
    there = {path.name: path.read_text() for path in (ROOT / "docs" / "pictures").glob("*.svg")}
    assert drawn.keys() == there.keys()
    for name, svg in drawn.items():
        assert re.sub(NUMBER, "0", svg) == re.sub(NUMBER, "0", there[name]), name
        moved = np.subtract(
            [float(n) for n in re.findall(NUMBER, svg)], [float(n) for n in re.findall(NUMBER, there[name])]
        )
        assert abs(moved).max() <= 0.11, name
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert {name for name in there if f"(pictures/{name})" not in pages} == set()
    assert {f"{name.lower()}.svg" for name in re.findall(r"^\| `(\w+)` \| `?[VSHa]", PAGE, re.MULTILINE)} <= set(there)


NUMBER = r"(?<![\w#.])-?\d+(?:\.\d+)?"
"""A length in a picture; not a digit of a colour or a name."""


def test_the_reference_has_every_public_name():
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    named = set(re.findall(r"^::: psu_deploy\.(?:api\.)?(\w+)$", pages, re.MULTILINE))
    assert named == set(psu.__all__) - {"importers", "models"}  # rooms, whose names are there one by one


def test_every_page_is_in_the_navigation():
    """And what the navigation names is there, or made by a hook."""
    named = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert there - {"proof.md", "fuzz.md", "report.md"} <= named
    made = {name for name in named - there if not re.match(r"(targets|examples)/", name)}
    assert made == {"tutorial.md", "contributing.md", "changelog.md"}
