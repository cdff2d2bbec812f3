"""A network that was trained on a GPU and is still there: captured, run and verified where it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.models import SHDNet, Spikformer
from tests.verify.networks import MeanOverTime, randomised

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

T = 4


def convolutional(neuron):
    """Wide convolutions, which a GPU would rather compute with ten bits of mantissa."""
    make = {"psu": psu.PSU, "ipsu": lambda: psu.IPSU(T), "rpsu": lambda: psu.RPSU(T), "lif": psu.LIF}[neuron]
    layers = [nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), make(), nn.Conv2d(32, 32, 3), make(), nn.Flatten()]
    return MeanOverTime(psu.SpikingSequential(*layers, nn.Linear(32 * 36, 10)))


NETWORKS = {
    "SHDNet": (lambda neuron: SHDNet(neuron, T=T, hidden=(64, 64)), (700,)),
    "convolutional": (convolutional, (3, 10, 10)),
}


@pytest.fixture(params=[f"{neuron} {name}" for name in NETWORKS for neuron in ("psu", "ipsu", "rpsu", "lif")])
def network(request):
    """Model on a CPU, features, input."""
    neuron, name = request.param.split()
    make, features = NETWORKS[name]
    torch.manual_seed(0)
    model = randomised(make(neuron)).eval()
    x = torch.randn(T, 4, *features)
    return model, features, x


def test_it_is_the_machine_that_it_is_on_a_cpu(network):
    model, features, _ = network
    expected = psu.to_state_machine(model, features)
    assert psu.to_state_machine(model.cuda(), features).content_hash == expected.content_hash


def test_it_is_verified_where_it_is(network, tmp_path):
    """In float32 as everywhere, whatever its convolutions are allowed in training."""
    model, features, x = network
    before = torch.backends.cudnn.allow_tf32
    artifact = psu.export(model.cuda(), tmp_path / "net.onnx", input_shape=features)
    report = psu.verify(model, artifact, x)
    assert report.ok, str(report)
    assert torch.backends.cudnn.allow_tf32 == before


def test_the_machine_runs_there(network):
    model, features, x = network
    machine = psu.to_state_machine(model, features)
    y, expected = machine.run(x.cuda()), machine.run(x)
    assert y.device.type == "cuda"
    torch.testing.assert_close(y.cpu(), expected, rtol=1e-3, atol=1e-3)
    assert psu.verify(machine, machine, x).ok


def test_attention(tmp_path):
    torch.manual_seed(0)
    model = (
        Spikformer("lif", T=T, image_channels=1, size=8, patch=1, width=32, depth=1, heads=4, classes=10).cuda().eval()
    )
    x = torch.rand(1, 4, 1, 8, 8).expand(T, 4, 1, 8, 8).contiguous()
    assert psu.verify(model, psu.export(model, tmp_path / "net.onnx", input_shape=(1, 8, 8)), x, allow_silent=True).ok
