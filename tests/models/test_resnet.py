"""ResNet18: a real residual, and every sample and every step its own."""

import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.models import CAUSAL, ResNet18, repeated
from tests.helpers import enlivened, spikes_by_hook

T, B = 4, 2
"""An even batch at T = 4: where the published network takes samples for steps."""


def network(neuron, steps=T):
    """In float64."""
    torch.manual_seed(0)
    net = ResNet18(neuron, T=steps, width=3, classes=4).double()
    return enlivened(net, lambda: images(6, steps), bias=2.0 if neuron == "masked_psn" else 1.0).eval()


def images(samples, steps):
    return repeated(torch.rand(samples, 3, 16, 16, dtype=torch.float64), steps)


def test_it_has_eighteen_layers_of_weights():
    """17 convolutions of 3 x 3 and the linear layer; three of 1 x 1 where the shape changes."""
    net = ResNet18("psu")
    kernels = [module.kernel_size[0] for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert (kernels.count(3), kernels.count(1)) == (17, 3)
    assert sum(isinstance(module, psu.PSU) for module in net.modules()) == 2 * 8 + 3
    assert sum(p.numel() for p in net.parameters() if p.ndim > 1) == 11_164_352  # as without spikes, for CIFAR-10


@pytest.mark.full
@pytest.mark.parametrize("neuron", CAUSAL)
def test_samples_do_not_meet(neuron):
    """An answer is the same whoever else is in the batch. (SPSN draws by the place in the batch: the first it is.)"""
    net, x = network(neuron), images(B, T)
    together = net(x)
    for sample in range(1 if neuron == "spsn" else B):
        torch.testing.assert_close(net(x[:, sample : sample + 1]), together[sample : sample + 1])
    other = x.clone()
    other[:, 1] = torch.rand_like(other[:1, 1])
    torch.testing.assert_close(net(other)[0], together[0])
    assert not torch.equal(net(other)[1], together[1])


@pytest.mark.parametrize("neuron", ["psu", "lif"])
def test_steps_are_steps(neuron):
    """The spikes of the first two steps are those of a run of two steps."""
    net, x = network(neuron), images(B, T)
    _, long = spikes_by_hook(net, x)
    _, short = spikes_by_hook(net, x[:2])
    assert any(spikes[2:].any() for spikes in long)
    for all_steps, two in zip(long, short, strict=True):
        assert torch.equal(all_steps[:2], two)


def test_what_is_added_are_currents():
    """With the last convolutions of all bodies at zero, blocks of one shape pass their input on, real as it is."""
    net, x = network("psu"), images(B, T)
    for block in net.blocks:
        nn.init.zeros_(block.body[5].weight)
    current = net.encode(x)
    assert torch.equal(net.blocks[1](net.blocks[0](current)), current)
    assert not torch.equal(current, current.round())


@pytest.mark.rows(1)
@pytest.mark.full
@pytest.mark.parametrize("steps", [1, 4, 6])
def test_the_exported_network_is_the_module(tmp_path, steps):
    """In onnxruntime, float32, every spike of a batch that is not T."""
    net = network("rpsu", steps).float()
    artifact = psu.export(net, tmp_path / "net.onnx", input_shape=(3, 16, 16))
    report = psu.verify(net, artifact, images(3, steps).float())
    assert report.ok, report
