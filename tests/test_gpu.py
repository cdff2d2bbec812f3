"""A network on a GPU: trained there; captured, run and verified where it is."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.importers import official
from psu_deploy.models import SHDNet, Spikformer
from psu_deploy.nn.neurons import Neuron
from psu_deploy.training import Recipe, load_run, train
from psu_deploy.training import test_data as data_of_test
from tests.importers.published import SeCifarNet
from tests.verify.networks import MeanOverTime, randomised

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else products are no deterministic ones, and are refused
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


@pytest.mark.parametrize(
    ("precision", "strategy"),
    [("32-true", "auto"), ("bf16-mixed", "auto"), ("16-mixed", "ddp"), ("32-true", "fsdp"), ("bf16-mixed", "fsdp")],
)
def test_training_there(precision, strategy, tmp_path):
    """One epoch and, resumed, another one; the machine of the run is the network, spike for spike."""
    recipe = Recipe(hidden=32, epochs=1, precision=precision)
    options = {"device": "cuda", "strategy": strategy, "progress": False, "pictures": False}
    train(recipe, tmp_path / "run", **options)
    recipe = replace(recipe, epochs=2)
    result = train(recipe, tmp_path / "run", resume=True, **options)
    assert result.device == "cuda"
    assert result.test_accuracy > 0.3
    model = load_run(tmp_path / "run").model
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, last["state_dict"][f"model.{name}"]), name
    x = torch.from_numpy(data_of_test(recipe, samples=50)[0])
    artifact = psu.export(model.cuda(), tmp_path / "net.onnx", input_shape=(8,))
    report = psu.verify(model, artifact, x)
    assert report.ok, str(report)


def test_a_prepared_network_is_trained_there(tmp_path):
    recipe = Recipe(hidden=32, epochs=1, deploy_for="lava")
    assert train(recipe, tmp_path, device="cuda", strategy="ddp", progress=False, pictures=False).epochs == 2
    assert load_run(tmp_path).recipe == recipe


def test_neurons_decide_in_float32_under_autocast(network):
    """The layers are rounded to bfloat16; what a neuron makes of its current is not."""
    model, _, x = network
    seen = []
    for module in model.cuda().modules():
        if isinstance(module, Neuron):
            module.register_forward_hook(lambda module, given, spikes: seen.append((module, given[0], spikes)))
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        model(x.cuda())
    rounded = list(seen)
    assert torch.bfloat16 in {current.dtype for _, current, _ in rounded}
    with torch.no_grad():
        for module, current, spikes in rounded:
            assert torch.equal(module(current.float()), spikes.float())


def test_its_checkpoint_is_imported_on_a_cpu(tmp_path):
    published = SeCifarNet("ppsu", 4).make()
    torch.save({key: value.cuda() for key, value in published.state.items()}, tmp_path / "m.pth")
    model = official.load(tmp_path / "m.pth", "ppsu")
    assert torch.equal(model.fc[3].weight, published.state["fc.3.weight"])
