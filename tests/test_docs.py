"""The documentation names everything there is, and its examples run."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.exporters.nir.without_node import WITHOUT_NODE
from psu_deploy.importers.neurons import FAMILIES
from psu_deploy.nn.neurons import PSN, Neuron
from psu_deploy.training import registry
from psu_deploy.training.catalogue import CATALOGUE
from psu_deploy.training.networks import takes_neuron
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
@pytest.mark.parametrize(
    "page", ["docs/neurons.md", "docs/data.md", "docs/training.md", "docs/gpu.md", "docs/c.md", "docs/proof.md"]
)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_REGISTERED", {})
    examples = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, page, "exec"), {})
