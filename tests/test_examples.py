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
NEEDS_A_FILE = "serial_onnxruntime.py"


def run(*arguments: object) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    model = psu.SpikingSequential(nn.Linear(6, 12), psu.RPSU(9, threshold=0.1))
    return psu.export(model, folder / "net.onnx", input_shape=(6,)).path


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != NEEDS_A_FILE])
def test_example_runs_and_reports_equivalence(name):
    assert "EQUIVALENT: " in run(ROOT / "examples" / name)


def test_deployment_example_needs_neither_torch_nor_psu_deploy(exported, tmp_path):
    x = (np.random.default_rng(1).random((9, 3, 6)) < 0.5).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    blocked = "import sys; sys.modules.update(dict.fromkeys(['torch', 'psu_deploy', 'onnx', 'onnx_ir']))"
    example = ROOT / "examples" / NEEDS_A_FILE
    script = f"{blocked}\nimport runpy\nsys.argv = ['x', {str(exported)!r}, {str(tmp_path / 'x.npy')!r}]\n"
    script += f"names = runpy.run_path({str(example)!r}, run_name='__main__')\n"
    script += "stepper = names['Stepper'](sys.argv[1]); stepper.reset(3)\n"
    script += "import numpy\nnumpy.save(sys.argv[2], [stepper.step(x_t) for x_t in numpy.load(sys.argv[2])])"
    run("-c", script)
    expected = psu.load(exported).run(x)
    assert expected.any()
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)


def test_deployment_example_imports_numpy_and_onnxruntime_only():
    text = (ROOT / "examples" / NEEDS_A_FILE).read_text()
    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)) == {"json", "sys", "numpy", "onnxruntime"}


def test_readme_code_runs_as_it_stands(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script = tmp_path / "readme.py"
    script.write_text(f"import os; os.chdir({str(tmp_path)!r})\n{block}")
    assert "EQUIVALENT: " in run(script)
    assert (tmp_path / "out" / "net.onnx").is_file()


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
