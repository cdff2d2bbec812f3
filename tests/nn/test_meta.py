"""Built without memory on the device "meta", given memory, then the numbers of a state dict: the same network."""

from __future__ import annotations

import pytest
import torch

from psu_deploy.models import NEURONS, VGGSNN, CIFARNet, DigitsNet, ResNet18, SequentialCIFARNet, SHDNet, Spikformer
from psu_deploy.models.cifarnet import repeated
from psu_deploy.nn.along_time import TimeConv1d
from psu_deploy.nn.neurons import IPSU, PPSU, RPSU, SPSN, MaskedPSN, SigmoidTable, Staircase
from psu_deploy.nn.temporal import CausalMatrix

T = 5
WIDTHS = (3, 3, 4, 4, 4, 4, 5, 5)

MODULES = {name: lambda make=make: make(T) for name, make in NEURONS.items()} | {
    "bias": lambda: IPSU(T, bias=True, init="kaiming"),
    "exponentials": lambda: IPSU(T, bias=True, temporal="exponentials"),
    "staircase": lambda: RPSU(T, estimator=Staircase(3)),
    "table": lambda: PPSU(T, estimator=SigmoidTable()),
    "half masked": lambda: MaskedPSN(T, 2, 0.5),
    "seed": lambda: SPSN(seed=4),
    "banded": lambda: CausalMatrix(T, order=2, init="kaiming"),
    "along time": lambda: TimeConv1d(3, 3, 3, lookahead=1),
}

NETWORKS = {
    "digits": (lambda n: DigitsNet(n, hidden=6), lambda: torch.rand(8, 2, 8)),
    "cifarnet": (lambda n: CIFARNet(n, T=T, widths=WIDTHS), lambda: repeated(torch.rand(2, 3, 8, 8), T)),
    "resnet18": (lambda n: ResNet18(n, T=T, width=2), lambda: repeated(torch.rand(2, 3, 8, 8), T)),
    "spikformer": (
        lambda n: Spikformer(n, T=T, size=8, patch=4, width=8, depth=1, heads=2),
        lambda: torch.rand(T, 2, 3, 8, 8),
    ),
    "vggsnn": (lambda n: VGGSNN(n, T=T, widths=WIDTHS, size=16), lambda: torch.rand(T, 2, 2, 16, 16)),
    "sequential": (lambda n: SequentialCIFARNet(n, T=T, channels=4, height=8), lambda: torch.rand(T, 2, 3, 8)),
    "shd": (lambda n: SHDNet(n, T=T, inputs=7, hidden=(9, 8), attention=True), lambda: torch.rand(T, 2, 7)),
}


def given_memory(make, state):
    """By `to_empty`, with whatever was there before."""
    with torch.device("meta"):
        module = make()
    assert all(p.is_meta for p in module.parameters())
    repr(module)
    module.to_empty(device="cpu")
    module.load_state_dict(state)
    return module.eval()


def assigned(make, state):
    """Without `to_empty`: the tensors of the state dict become those of the module."""
    with torch.device("meta"):
        module = make()
    module.load_state_dict(state, assign=True)
    return module.eval()


@pytest.mark.parametrize("filled", [given_memory, assigned])
@pytest.mark.parametrize("name", MODULES)
def test_a_module(name, filled):
    torch.manual_seed(0)
    original, x = MODULES[name]().eval(), 3 * torch.randn(T, 4, 3)
    copied = filled(MODULES[name], original.state_dict())
    y = original(x)
    assert y.any()
    assert torch.equal(copied(x), y)
    assert repr(copied) == repr(original)


@pytest.mark.parametrize("filled", [given_memory, assigned])
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network(name, neuron, filled):
    torch.manual_seed(0)
    make, data = NETWORKS[name]
    original, x = make(neuron), data()
    original(x)  # statistics that are not the ones it was born with
    original.eval()
    assert torch.equal(filled(lambda: make(neuron), original.state_dict())(x), original(x))


@pytest.mark.parametrize("name", ["psu", "rpsu", "masked_psn", "sliding_psn"])
def test_matrices_are_on_the_cpu_whatever_the_default_device(name):
    unit = MODULES[name]()
    with torch.device("meta"):
        operators = [o for o in (unit.integrate, unit.estimate, unit.reset) if o is not None]
        assert all(o.matrix(T).device.type == o.bias(T).device.type == "cpu" for o in operators)
        serial = [value for o in operators for value in o.recurrence().coefficients.values()]
    assert all(value.device.type == "cpu" for value in serial)
