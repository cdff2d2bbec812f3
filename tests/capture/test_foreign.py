"""Modules of snnTorch and norse: refused, with the way that works, which is walked here as it is told."""

import re
import subprocess
import sys

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import psu_deploy as psu
from psu_deploy.capture.foreign import foreign
from psu_deploy.cli import app
from psu_deploy.models import NEURONS
from tests.exporters.nir.importing.nir_graphs import Later, nir, optional

snntorch = optional("snntorch")
norse = Later("norse.torch")
export_nir = optional("snntorch.export_nir")

pytestmark = pytest.mark.filterwarnings("ignore")  # what they do is theirs to mend


class OwnLeaky(snntorch.Leaky):
    """Somebody's own."""


MODULES = {
    "Leaky": ("snntorch", lambda: snntorch.Leaky(0.9)),
    "Synaptic": ("snntorch", lambda: snntorch.Synaptic(0.9, 0.8)),
    "RLeaky": ("snntorch", lambda: snntorch.RLeaky(0.9, linear_features=3)),
    "a subclass": ("snntorch", lambda: OwnLeaky(0.9)),
    "LIFCell": ("norse", lambda: norse.LIFCell()),
    "LIFBoxCell": ("norse", lambda: norse.LIFBoxCell()),
    "LIBoxCell": ("norse", lambda: norse.LIBoxCell()),
    "SequentialState": ("norse", lambda: norse.SequentialState(nn.Linear(3, 2))),
}


@pytest.mark.parametrize("name", MODULES)
def test_refused_by_package(name):
    package, make = MODULES[name]
    refusal = foreign(make())
    assert refusal is not None
    assert refusal.reason.startswith(f"a module of {package},")
    assert "psu-deploy import net.nir" in refusal.remedy


@pytest.mark.parametrize(
    "make", [*(lambda n=n: NEURONS[n](4) for n in NEURONS), lambda: nn.Linear(2, 2), nn.Sequential]
)
def test_ours_and_torchs_are_none(make):
    assert foreign(make()) is None


def test_what_only_holds_one_is_none():
    """Whoever walks the network comes to the one inside."""
    assert foreign(nn.Sequential(snntorch.Leaky(0.9))) is None


def test_a_package_with_a_name_that_begins_alike_is_none():
    kind = type("Leaky", (nn.Module,), {"__module__": "snntorchlike.neurons"})
    assert foreign(kind()) is None


def ones(value, n):
    return torch.full((n,), value)


def leaky(n, **given):
    return snntorch.Leaky(ones(0.9, n), ones(0.5, n), reset_mechanism="zero", init_hidden=True, **given)


NETWORKS = {
    "snntorch": (
        lambda: nn.Sequential(nn.Linear(6, 8), leaky(8), nn.Linear(8, 3), leaky(3, output=True)),
        lambda: torch.randn(1, 6),
    ),
    "norse": (
        lambda: norse.SequentialState(
            nn.Linear(6, 8),
            norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(300.0), v_th=torch.tensor(0.1))),
            nn.Linear(8, 3),
            norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=torch.tensor(200.0))),
        ),
        lambda: torch.randn(6),
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("package", NETWORKS)
def test_the_way_that_is_told_works(package, tmp_path, monkeypatch):
    """The Python of the remedy, then its command: a machine with neurons comes out."""
    monkeypatch.chdir(tmp_path)
    make, sample = NETWORKS[package]
    net = make()
    remedy = next(r for module in net.modules() if (r := foreign(module))).remedy
    python = re.search(r"nir\.write\(.*, compression=None\)", remedy).group()
    eval(python, {"nir": nir, "snntorch": snntorch, "norse": sys.modules["norse"], "net": net, "x": sample()})
    command = re.search(r"psu-deploy (import .* --dt \S+?)[ ;]", remedy).group(1)
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 0, result.output
    assert psu.StateMachine.load(tmp_path / "net.psm").spiking


@pytest.mark.full
def test_neither_is_imported():
    script = "import sys, psu_deploy.capture.foreign; assert not {'snntorch', 'norse'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
