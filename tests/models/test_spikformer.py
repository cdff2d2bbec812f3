"""Spikformer: attention against its formula, shapes, causality, gradients."""

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.errors import InputError
from psu_deploy.models import CAUSAL, NEURONS, Spikformer, repeated
from psu_deploy.models.spikformer import SpikingSelfAttention
from tests.helpers import enlivened, spikes_by_hook

T, B = 5, 3
SMALL = {"T": T, "classes": 4, "image_channels": 2, "size": 8, "patch": 2, "width": 16, "depth": 2, "heads": 4}


def network(neuron, **given):
    torch.manual_seed(0)
    net = Spikformer(neuron, **SMALL | given)
    return net if given.get("static") else enlivened(net, frames, bias=2.0 if neuron == "masked_psn" else 1.0)


def frames():
    return torch.poisson(torch.full((T, B, 2, 8, 8), 0.5))


def attention(scale, heads=3, width=12):
    """Its layer, and what its neurons saw and gave: queries, keys, values, and the current behind the product."""
    torch.manual_seed(0)
    layer = SpikingSelfAttention(width, heads, lambda: psu.PSU(threshold=0.25), scale).double()
    seen = {}
    for name in ("query", "key", "value"):
        getattr(layer, name).register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o.detach()))
    layer.attended.register_forward_hook(lambda m, i, o: seen.__setitem__("current", i[0].detach()))
    y = layer(torch.randn(T, B, width, 7, dtype=torch.float64))
    return seen, y


@pytest.mark.parametrize("scale", [0.125, 1.0])
def test_attention_is_its_formula(scale):
    """sum over tokens m of scale (q_n . k_m) v_m, head by head, in numpy; the numbers are whole, so they are equal."""
    seen, y = attention(scale)
    q, k, v = (seen[name].numpy() for name in ("query", "key", "value"))
    expected = np.zeros_like(v)
    for head in range(3):
        rows = slice(4 * head, 4 * head + 4)
        for n in range(7):
            for m in range(7):
                together = (q[:, :, rows, n] * k[:, :, rows, m]).sum(-1, keepdims=True)
                expected[:, :, rows, n] += scale * together * v[:, :, rows, m]
    assert expected.any()
    np.testing.assert_array_equal(seen["current"].numpy(), expected)
    assert y.shape == (T, B, 12, 7)


@pytest.mark.parametrize("neuron", NEURONS)
def test_it_trains(neuron):
    """Logits of every sample, and a gradient for every parameter."""
    logits = network(neuron)(frames())
    assert logits.shape == (B, 4)
    (logits - torch.arange(4.0)).square().sum().backward()


@pytest.mark.parametrize("neuron", ["psu", "rpsu", "lif"])
def test_every_parameter_learns(neuron):
    net = network(neuron, scale=0.5)
    (net(frames()) - torch.arange(4.0)).square().sum().backward()
    assert not [path for path, p in net.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("neuron", [name for name in CAUSAL if name != "spsn"])
def test_it_is_causal(neuron):
    """Another frame at step t: the same spikes before it, other ones from it on."""
    net, x = network(neuron, scale=0.5).eval(), frames()
    changed = x.clone()
    changed[3] = 5 - changed[3]
    (_, before), (_, after) = (spikes_by_hook(net, data) for data in (x, changed))
    assert all(torch.equal(a[:3], b[:3]) for a, b in zip(before, after, strict=True))
    assert any(not torch.equal(a[3:], b[3:]) for a, b in zip(before, after, strict=True))


@pytest.mark.full
def test_samples_do_not_meet():
    net, x = network("rpsu", scale=0.5).eval(), frames()
    together = net(x)
    for sample in range(B):
        torch.testing.assert_close(net(x[:, sample : sample + 1])[0], together[sample])


@pytest.mark.rows(1)
@pytest.mark.full
@pytest.mark.parametrize("neuron", CAUSAL)
def test_the_machine_is_the_module(neuron):
    """In float64, so that no decision hangs on rounding; every layer fires somewhere, a masked PSN's in most layers."""
    net = network(neuron, scale=0.5).double().eval()
    report = psu.verify(net, psu.to_state_machine(net, (2, 8, 8)), frames().double())
    assert report.ok, report
    assert report.spike_flips == 0
    lively = [0 < layer.firing_rate < 1 for layer in report.comparisons[0].layers]
    assert all(lively) or (neuron == "masked_psn" and sum(lively) > len(lively) / 2)


@pytest.mark.nightly
def test_the_exported_network_is_the_module(tmp_path):
    net = network("rpsu", scale=0.5).eval()
    artifact = psu.export(net, tmp_path / "net.onnx", input_shape=(2, 8, 8))
    report = psu.verify(net, artifact, frames())
    assert report.ok, report


@pytest.mark.parametrize(("patch", "tokens"), [(1, 256), (2, 64), (4, 16), (8, 4), (16, 1)])
def test_patches_become_tokens(patch, tokens):
    net = Spikformer("psu", size=16, patch=patch, width=8, depth=1, heads=1, T=2)
    seen = []
    net.blocks.register_forward_hook(lambda m, i, o: seen.append(o.shape))
    net(torch.rand(2, B, 3, 16, 16))
    assert seen == [(2, B, 8, tokens)]


def test_a_static_image():
    net = network("psu", static=True)
    image = torch.rand(B, 2, 8, 8)
    assert net(repeated(image, T)).shape == (B, 4)
    with pytest.raises(InputError, match="must be the same at every step"):
        net(frames())


@pytest.mark.full
def test_neurons_by_name_fire_at_half():
    neurons = [m for m in network("rpsu").modules() if isinstance(m, psu.RPSU)]
    assert {neuron.threshold for neuron in neurons} == {0.5}
    assert len(neurons) == 5 + 2 * (5 + 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"neuron": "gru"}, "neuron must be one of psu, ipsu"),
        ({"patch": 3}, "patch must be one of 1, 2, 4, 8, 16, got 3"),
        ({"size": 9}, "size must be a multiple of 2"),
        ({"width": 12}, "width must be a multiple of 8"),
        ({"heads": 3}, "heads must divide width=16, got heads=3"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"scale": "1"}, "scale must be a number"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(InputError, match=message):
        Spikformer(**SMALL | {"neuron": "psu"} | given)
