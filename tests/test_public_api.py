"""What `import psu_deploy` offers, what it costs, and what it says when an extra is missing."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops

MACHINE = StateMachine((Node("a", ops.Linear(np.eye(2)), ("x",)),), (2,))


def python(script, **options):
    """Run a script in a fresh interpreter, outside the checkout's folder."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, **options)
    return done.returncode, done.stdout, done.stderr


def test_names_are_alphabetical():
    """CONSTANT-like names, then classes, then functions, each in order."""

    def place(name):
        return (not name.isupper(), not name[0].isupper(), name)

    assert psu.__all__ == sorted(psu.__all__, key=place)
    assert len(psu.__all__) == len(set(psu.__all__))


@pytest.mark.parametrize("name", psu.__all__)
def test_a_name_is_there_and_documented(name):
    thing = getattr(psu, name)
    home = thing.__name__ if inspect.ismodule(thing) else thing.__module__
    assert home.startswith("psu_deploy.")
    assert thing.__doc__
    assert inspect.getdoc(thing).splitlines()[0].endswith((".", "?", "]"))


@pytest.mark.parametrize("name", psu.__all__)
def test_public_methods_are_documented(name):
    thing = getattr(psu, name)
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        own = {n: m for n, m in vars(thing).items() if not n.startswith("_") and callable(m)}
        undocumented = [n for n, method in own.items() if not inspect.getdoc(getattr(thing, n))]
        assert undocumented in ([], ["forward"])


def test_nothing_public_is_forgotten():
    public = {name for name, value in vars(psu).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public | {"importers", "models"} == set(psu.__all__)


def test_version():
    assert psu.__version__ == version("psu-deploy")


def test_every_error_is_a_psu_deploy_error():
    errors = [getattr(psu, name) for name in psu.__all__ if name.endswith("Error")]
    assert len(errors) > 5
    assert all(issubclass(error, psu.PsuDeployError) for error in errors)
    assert issubclass(psu.InputError, ValueError)
    assert issubclass(psu.MissingExtraError, ImportError)


HEAVY = (
    "lightning",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "pytorch_lightning",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "typer",
)


@pytest.mark.full
def test_importing_it_imports_nothing_optional(tmp_path):
    script = f"import sys, psu_deploy; print([m for m in {HEAVY} if m in sys.modules])"
    assert python(script, cwd=tmp_path) == (0, "[]\n", "")


@pytest.mark.full
def test_it_works_without_any_extra(tmp_path):
    """Training side, capture, serial run, trace, save, load and verification of a module against its machine."""
    script = """
import sys
for name in ("lightning", "onnx", "onnx_ir", "onnxruntime", "sklearn"):
    sys.modules[name] = None
import torch, psu_deploy as psu
torch.manual_seed(0)  # a network that never fires would prove nothing
model = psu.SpikingSequential(torch.nn.Linear(3, 4), psu.RPSU(5, threshold=0.05), torch.nn.Linear(4, 2))
machine = psu.to_state_machine(model, input_shape=(3,))
machine = psu.StateMachine.load(machine.save("net.psm"))
x = torch.rand(5, 2, 3)
assert psu.verify(model, machine, x).ok
print(tuple(machine.run(x).shape))
"""
    assert python(script, cwd=tmp_path) == (0, "(5, 2, 2)\n", "")


@pytest.mark.full
class TestMissingExtra:
    ONNX = "it comes with the 'onnx' extra: pip install \"psu-deploy[onnx]\""
    TRAIN = "it comes with the 'train' extra: pip install \"psu-deploy[train]\""

    @pytest.fixture(params=["onnx", "onnx_ir", "onnxruntime"])
    def missing(self, request, monkeypatch):
        monkeypatch.setitem(sys.modules, request.param, None)
        return request.param

    def test_export(self, missing, tmp_path):
        with pytest.raises(psu.MissingExtraError) as error:
            psu.export(MACHINE, tmp_path / "net.onnx")
        assert str(error.value) == f"{missing!r} is not installed; {self.ONNX}"
        assert not any(tmp_path.iterdir())

    def test_load(self, missing, tmp_path):
        with pytest.raises(psu.MissingExtraError) as error:
            psu.load(tmp_path / "net.onnx")
        assert str(error.value) == f"{missing!r} is not installed; {self.ONNX}"

    def test_verify(self, missing, tmp_path):
        with pytest.raises(psu.MissingExtraError):
            psu.verify(MACHINE, tmp_path / "net.onnx", np.zeros((1, 1, 2), np.float32))

    def test_train(self, tmp_path):
        script = """
import sys
for name in ("lightning", "sklearn"):
    sys.modules[name] = None
    try:
        import psu_deploy.training
    except ImportError as error:
        print(f"{type(error).__name__}: {error}")
    del sys.modules[name]
"""
        code, stdout, stderr = python(script, cwd=tmp_path)
        assert code == 0, stderr
        expected = [f"MissingExtraError: {name!r} is not installed; {self.TRAIN}" for name in ("lightning", "sklearn")]
        assert stdout.splitlines() == expected

    def test_on_the_command_line(self, tmp_path):
        script = """
import sys
sys.modules["lightning"] = None
sys.argv[1:] = ["train", "digits", "--out", "run"]
import psu_deploy.__main__
"""
        expected = f"error: 'lightning' is not installed; {self.TRAIN}\n"
        assert python(script, cwd=tmp_path) == (2, "", expected)
        assert not any(tmp_path.iterdir())
