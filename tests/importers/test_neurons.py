"""The other neurons of published checkpoints, in the network they share; oracles are loops and full matrices."""

import math

import numpy as np
import pytest
import torch

import psu_deploy as psu
from psu_deploy.errors import UnsupportedModelError
from psu_deploy.importers import official
from tests.importers.published import SeCifarNet

T = 6


class Other(SeCifarNet):
    """A network whose neurons are made and run by two functions.

    Args:
        make_neuron: (random generator) -> suffix -> tensor.
        fire_neuron: (suffix -> float64 tensor, current (T, n)) -> spikes.
    """

    def __init__(self, make_neuron, fire_neuron):
        super().__init__("psu", T)
        self.make_neuron, self.fire_neuron = make_neuron, fire_neuron

    def neuron(self, name):
        for key, value in self.make_neuron(self.random).items():
            self.state[f"{name}.{key}"] = value

    def fire(self, name, x, spikes):
        own = {key.removeprefix(f"{name}."): v.double() for key, v in self.state.items() if key.startswith(f"{name}.")}
        spikes[name] = self.fire_neuron(own, x.flatten(1)).double().view_as(x)
        return spikes[name]


def matrix(random, *shape):
    """Random, but a step's own current counts for most."""
    drawn = random.normal(0, 0.3, shape) + (np.eye(shape[0]) if len(shape) == 2 else 0)
    return torch.from_numpy(drawn).float()


def number(value):
    return torch.tensor(value)


def loop(step):
    """A neuron that knows its own spikes: step(v, x) -> (h, v after the reset of a spike)."""

    def fire(own, current, strict):
        v, spikes = torch.zeros_like(current[0]), []
        for x in current:
            h, threshold = step(own, v, x), own.get("threshold", torch.tensor(0.5))
            spikes.append(h > threshold if strict else h >= threshold)
            v = h, spikes[-1].double(), threshold
            v = v[0] - v[1] * v[2] if own["soft"] else v[0] * (1 - v[1])
        return torch.stack(spikes)

    return fire


def leaky(soft, strict=True, tau=2.0):
    def step(own, v, x):
        return v + (x - v) * (torch.sigmoid(own["w"]) if "w" in own else 1 / tau)

    fire = loop(step)
    return lambda own, current: fire({**own, "soft": soft}, current, strict)


def psn_keys(random, prefix="fc.", extra=()):
    return {f"{prefix}weight": matrix(random, T, T), f"{prefix}bias": matrix(random, T) - 0.5} | dict(extra)


BRAINCOG = {"threshold": number(0.5), "act_fun.alpha": number(2.0)}
BAND = torch.ones(T, T).tril().triu(-2)
TRIANGLE = torch.ones(T, T).tril()

CASES = {
    "masked_psn of BrainCog": (
        None,
        {"node_type": "MaskedPSN"},
        lambda r: psn_keys(r) | BRAINCOG | {"mask0": TRIANGLE},
        lambda own, x: (own["fc.weight"] * own["mask0"]) @ x + own["fc.bias"][:, None] > 0,
    ),
    "masked_psn of the PSN authors": (
        None,
        {"epochs": 64},
        lambda r: psn_keys(r) | {"fc.mask0": BAND, "fc.mask1": torch.ones(T, T)},
        lambda own, x: (own["fc.weight"] * own["fc.mask0"]) @ x + own["fc.bias"][:, None] >= 0,
    ),
    "masked_psn of SpikingJelly": (
        None,
        {},
        lambda r: {
            "weight": matrix(r, T, T),
            "bias": matrix(r, T)[:, None] - 0.5,
            "_lambda_": number(1.0),
            "mask0": BAND,
            "mask1": torch.ones(T, T),
        },
        lambda own, x: (own["weight"] * own["mask0"]) @ x + own["bias"] >= 0,
    ),
    "sliding_psn of the PSN authors, matrix": (
        None,
        {},
        lambda r: {"weight": matrix(r, 3) + 0.5, "threshold": number(-1.0)},
        lambda own, x: slide(own["weight"], x) + own["threshold"] >= 0,
    ),
    "sliding_psn of the PSN authors, convolution": (
        None,
        {},
        lambda r: {"weight": (matrix(r, 3) + 0.5).view(1, 1, 3), "threshold": number(1.0)},
        lambda own, x: slide(own["weight"].flatten(), x) - own["threshold"] >= 0,
    ),
    "sliding_psn of SpikingJelly": (
        None,
        {},
        lambda r: {"weight": matrix(r, 3) + 0.5, "bias": number(-1.0)},
        lambda own, x: slide(own["weight"], x) + own["bias"] >= 0,
    ),
    "lif of the PSU authors": (
        "lif_soft",
        {"node_type": "LIFNode", "tau": 3.0},
        lambda r: BRAINCOG,
        leaky(True, tau=3.0),
    ),
    "lif of BrainCog": ("lif-hard", {"node_type": "LIFNode", "tau": 3.0}, lambda r: BRAINCOG, leaky(False, tau=3.0)),
    "plif of the PSU authors": (
        "plif_soft",
        {"node_type": "PLIFNode"},
        lambda r: BRAINCOG | {"w": number(-math.log(2.0))},
        leaky(True),
    ),
    "plif of SpikingJelly": ("plif_hard", {}, lambda r: {"w": number(0.3)}, None),
}
"""What it is -> neuron argument, changes to the script's arguments, keys, equation."""


def slide(weight, x):
    """y[t] = sum_i w_i x[t - k + 1 + i], zeros before the first step."""
    padded = torch.cat([x.new_zeros(len(weight) - 1, *x.shape[1:]), x])
    return sum(w * padded[i : i + len(x)] for i, w in enumerate(weight))


def save(network, path, **args):
    network.save(path, **({"node_type": None, "tau": None, "threshold": 0.5} | args))


@pytest.mark.full
@pytest.mark.parametrize("case", CASES)
def test_spikes_and_logits(case, tmp_path):
    neuron, args, make, fire = CASES[case]
    fire = fire or (lambda own, x: leaky(False, strict=False)(own, x))
    network = Other(make, fire).make()
    content_epoch = {"epoch": 40}
    save(network, tmp_path / "m.pth", **args)
    content = torch.load(tmp_path / "m.pth", weights_only=False)
    torch.save(content | content_epoch, tmp_path / "m.pth")
    model = official.load(tmp_path / "m.pth", neuron).double()
    x = torch.from_numpy(np.random.default_rng(3).normal(0.3, 1.0, (T, 3, *network.features)))
    logits, expected = network.run(x)
    assert all(0.01 < rows.mean() < 0.99 for rows in expected.values()), "a layer that never or always fires"
    trace = psu.to_state_machine(model, network.features).trace(x)
    for ours, theirs in zip(trace.spikes, expected, strict=True):
        assert torch.equal(trace.spikes[ours], expected[theirs]), theirs
    torch.testing.assert_close(trace.output[-1], logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(model(x), logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("args", [{"node_type": "PSN"}, {}])
def test_psn_is_loaded_and_refused_by_the_machine(args, tmp_path):
    def fire(own, x):
        h = own["fc.weight"] @ x + own["fc.bias"][:, None]
        return h > 0 if args else h >= 0

    network = Other(lambda r: psn_keys(r) | (BRAINCOG if args else {}), fire).make()
    save(network, tmp_path / "m.pth", **args)
    model = official.load(tmp_path / "m.pth").double()
    x = torch.from_numpy(np.random.default_rng(3).normal(0.3, 1.0, (T, 3, *network.features)))
    torch.testing.assert_close(model(x), network.run(x)[0], rtol=0, atol=1e-9)
    with pytest.raises(UnsupportedModelError, match="not causal"):
        psu.to_state_machine(model, network.features)


def test_spsn_has_the_published_firing_probabilities(tmp_path):
    a = 0.25
    lag = np.arange(T)[:, None] - np.arange(T)[None, :]
    m1 = torch.from_numpy(np.where(lag >= 0, a ** np.maximum(lag + 1, 0), 0.0)).float()
    network = Other(lambda r: BRAINCOG | {"m1": m1}, None).make()
    save(network, tmp_path / "m.pth", node_type="SPSN")
    neuron = official.load(tmp_path / "m.pth").double().fc[2]
    current = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (T, 2, 5)))
    V, _ = neuron.potentials(current)
    torch.testing.assert_close(V.flatten(1), m1.double() @ current.flatten(1), rtol=0, atol=1e-9)


def test_masking_that_is_not_finished_is_kept_and_refused_by_the_machine(tmp_path):
    make = CASES["masked_psn of the PSN authors"][2]
    network = Other(make, lambda own, x: x > 0).make()
    save(network, tmp_path / "m.pth", epochs=129)  # saved in epoch 3 of 129
    model = official.load(tmp_path / "m.pth")
    assert model.fc[2].lambda_ == pytest.approx(8 * 3 / 128)
    with pytest.raises(UnsupportedModelError, match=r"lambda_ = 0\.1875 < 1: rows still look ahead"):
        psu.to_state_machine(model, network.features)


def test_the_number_of_epochs_may_stand_in_the_folder_or_be_said(tmp_path):
    make = CASES["masked_psn of the PSN authors"][2]
    network = Other(make, lambda own, x: x > 0).make()
    folder = tmp_path / "if5pmd8_e17_b128_sgd_lr0.1_c128"
    folder.mkdir()
    save(network, folder / "checkpoint_max.pth")
    assert official.load(folder / "checkpoint_max.pth").fc[2].lambda_ == 1.0
    assert official.load(folder / "checkpoint_max.pth", epochs=65).fc[2].lambda_ == pytest.approx(0.375)
