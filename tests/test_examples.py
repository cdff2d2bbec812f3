"""Everything a newcomer would copy runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import psu_deploy as psu

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
NEED_A_FILE = {"check_certificate.py", "serial_onnxruntime.py", "nir_in_norse.py", "nir_in_snntorch.py"}


def run(*arguments: object) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    model = psu.SpikingSequential(nn.Linear(6, 12), psu.RPSU(9, threshold=0.1))
    return psu.export(model, folder / "net.onnx", input_shape=(6,)).path


@pytest.mark.full
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.nightly if name == "fixed_point_in_lava.py" else ())
        for name in EXAMPLES
        if name not in NEED_A_FILE
    ],
)
def test_example_runs_and_reports_equivalence(name, tmp_path):
    text = (ROOT / "examples" / name).read_text()
    shorter = tmp_path / name  # as it stands, but for the epochs that make it accurate
    shorter.write_text(text.replace("EPOCHS, BATCH = 4, 5, 64", "EPOCHS, BATCH = 4, 1, 64"))
    assert "EQUIVALENT: " in run(shorter)


@pytest.mark.full
def test_deployment_example_needs_neither_torch_nor_psu_deploy(exported, tmp_path):
    x = (np.random.default_rng(1).random((9, 3, 6)) < 0.5).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    blocked = "import sys; sys.modules.update(dict.fromkeys(['torch', 'psu_deploy', 'onnx', 'onnx_ir']))"
    example = ROOT / "examples" / "serial_onnxruntime.py"
    script = f"{blocked}\nimport runpy\nsys.argv = ['x', {str(exported)!r}, {str(tmp_path / 'x.npy')!r}]\n"
    script += f"names = runpy.run_path({str(example)!r}, run_name='__main__')\n"
    script += "stepper = names['Stepper'](sys.argv[1]); stepper.reset(3)\n"
    script += "import numpy\nnumpy.save(sys.argv[2], [stepper.step(x_t) for x_t in numpy.load(sys.argv[2])])"
    run("-c", script)
    expected = psu.load(exported).run(x)
    assert expected.any()
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    """A NIR file, its machine, and an input as the sender has them."""
    folder = tmp_path_factory.mktemp("portable")
    model = psu.models.DigitsNet(lambda: psu.PSU(threshold=0.1, estimator=psu.Staircase(levels=7)), hidden=16).eval()
    machine = psu.to_state_machine(model, (8,))
    x = 3 * np.random.default_rng(0).standard_normal((8, 2, 8)).astype(np.float32)
    np.save(folder / "x.npy", x)
    return psu.export(machine, folder / "net.nir", target="nir", simulator="portable").path, machine.trace(x)


@pytest.mark.full
@pytest.mark.parametrize("name", ["nir_in_norse.py", "nir_in_snntorch.py"])
def test_who_receives_a_nir_file_gets_the_spikes_of_the_sender(portable, name):
    path, trace = portable
    blocked = "import sys, runpy; sys.modules['psu_deploy'] = None; sys.argv = sys.argv[1:]"
    script = f"{blocked}; runpy.run_path(sys.argv[0], run_name='__main__')"
    printed = run("-c", script, ROOT / "examples" / name, path, path.parent / "x.npy")
    counts = {layer: int(spikes.sum()) for layer, spikes in trace.spikes.items()}
    assert min(counts.values()) > 0
    assert f"spikes in 8 steps: {counts}" in printed
    assert str(np.round(trace.output[-1], 4)) in printed


def test_deployment_example_imports_numpy_and_onnxruntime_only():
    text = (ROOT / "examples" / "serial_onnxruntime.py").read_text()
    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)) == {"json", "sys", "numpy", "onnxruntime"}


@pytest.mark.full
def test_readme_code_runs_as_it_stands(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = tmp_path / "readme.py"
    script.write_text("\n".join([f"import os; os.chdir({str(tmp_path)!r})", *blocks]))
    assert len(re.findall(r"^EQUIVALENT: ", run(script), re.MULTILINE)) == 3
    assert (tmp_path / "out" / "net.onnx").is_file()
    assert (tmp_path / "out" / "net.nir").is_file()
    assert (tmp_path / "out" / "net.net").is_file()


@pytest.mark.full
def test_readme_names_only_commands_that_exist():
    from typer.testing import CliRunner

    from psu_deploy.cli import app

    verbs = set(re.findall(r"^    psu-deploy (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert verbs >= {"train", "export", "verify", "run", "inspect", "doctor"}
    for verb in verbs:
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


def test_nothing_points_outside_the_repository():
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*/**/*.md")]:
        if ".venv" not in path.parts:
            for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
                assert target.startswith("http") or (path.parent / target).exists(), f"{path}: {target}"
