import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from psu_deploy.capture import to_state_machine
from psu_deploy.errors import HorizonError, InputError
from psu_deploy.models import NEURONS, DigitsNet
from psu_deploy.models.digits import CLASSES, INPUT_SHAPE, STEPS
from psu_deploy.nn.neurons import IPSU, LIF, PLIF, PPSU, PSN, PSU, RPSU, SPSN, MaskedPSN, SlidingPSN

KINDS = {
    "psu": PSU,
    "ipsu": IPSU,
    "rpsu": RPSU,
    "ppsu": PPSU,
    "masked_psn": MaskedPSN,
    "sliding_psn": SlidingPSN,
    "spsn": SPSN,
    "lif": LIF,
    "plif": PLIF,
}


def images(batch: int) -> torch.Tensor:
    return torch.rand(STEPS, batch, *INPUT_SHAPE, generator=torch.Generator().manual_seed(batch))


def lively(neuron: str) -> DigitsNet:
    """A network that fires, with BatchNorm statistics that are not the ones it was born with."""
    torch.manual_seed(0)
    net = DigitsNet(neuron, hidden=16)
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm1d)):
        nn.init.constant_(norm.weight, 3.0)
        nn.init.constant_(norm.bias, 1.0)
    for _ in range(20):
        net(images(32))
    net.eval()
    assert net(images(5)).std(0).min() > 0.01, "the same logits for every image: nothing fires"
    return net


def test_every_neuron_has_a_name() -> None:
    assert {name: type(make(STEPS)) for name, make in NEURONS.items()} == KINDS | {"psn": PSN}


@pytest.mark.parametrize("neuron", KINDS)
def test_the_named_neuron_is_in_both_layers(neuron: str) -> None:
    neurons = [module for module in DigitsNet(neuron, hidden=4).modules() if isinstance(module, KINDS[neuron])]
    assert len(neurons) == 2


@pytest.mark.full
@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(KINDS)), st.integers(1, 5), st.integers(1, 9))
def test_logits_have_one_row_per_image(neuron: str, batch: int, hidden: int) -> None:
    assert DigitsNet(neuron, hidden)(images(batch)).shape == (batch, CLASSES)


@pytest.mark.full
@pytest.mark.parametrize("neuron", KINDS)
def test_logits_are_the_mean_of_the_last_layer_over_time(neuron: str) -> None:
    net, x = lively(neuron), images(5)
    spikes = x
    for layer in list(net.layers)[:-1]:
        spikes = layer(spikes) if isinstance(layer, KINDS[neuron]) else layer(spikes.flatten(0, 1)).unflatten(0, (8, 5))
    last = net.layers[-1]
    by_hand = sum(spikes[t] @ last.weight.T + last.bias for t in range(STEPS)) / STEPS
    # The sum over time is taken in another order.
    torch.testing.assert_close(net(x), by_hand, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("neuron", KINDS)
def test_spikes_are_dropped_in_training_only(neuron: str) -> None:
    net, x = lively(neuron), images(5)
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))


@pytest.mark.full
@pytest.mark.parametrize("neuron", KINDS)
def test_becomes_a_serial_machine(neuron: str) -> None:
    net, x = lively(neuron), images(7)
    machine = to_state_machine(net, INPUT_SHAPE)
    assert machine.horizon == (None if neuron in ("psu", "sliding_psn", "spsn", "lif", "plif") else STEPS)
    # BatchNorm is folded into the layer before it, which rounds differently; a flipped spike would show as 1e-2.
    torch.testing.assert_close(machine.run(x)[-1], net(x), rtol=0, atol=1e-4)


def test_a_learned_matrix_ends_after_eight_steps() -> None:
    with pytest.raises(HorizonError):
        DigitsNet("rpsu", hidden=4)(torch.zeros(STEPS + 1, 1, *INPUT_SHAPE))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neuron": "gru"}, "neuron must be one of psu, ipsu, .* got 'gru'"),
        ({"hidden": 0}, "hidden is a number of neurons and must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout is a probability"),
        ({"dropout": float("nan")}, "dropout is a probability"),
    ],
)
def test_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DigitsNet(**arguments)
