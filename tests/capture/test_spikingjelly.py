"""Networks of SpikingJelly, written as its users write them: their own spikes, the machine's and the artifact's."""

from __future__ import annotations

import random
import sys
from copy import deepcopy
from types import ModuleType

import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.capture.spikingjelly import at_rest
from tests.capture.jelly import (
    check_everywhere,
    check_machine,
    currents,
    fires,
    functional,
    layer,
    multi_step,
    neuron,
    spikes_of,
    spikingjelly,
    surrogate,
    trained,
)
from tests.helpers import Forward

STEPS = (1, 2, 7, 33, 64)


# -- random networks ----------------------------------------------------------------------------------------------


def leaky_options(draw):
    return {
        "v_threshold": draw.choice([0.3, 0.5, 1.0]),
        "v_reset": draw.choice([None, 0.0, 0.2, -0.7]),
        "detach_reset": draw.random() < 0.5,
        "store_v_seq": draw.random() < 0.5,
        "surrogate_function": draw.choice([surrogate.ATan(), surrogate.Sigmoid(), surrogate.PiecewiseQuadratic()]),
    }


def random_neuron(kind, T, draw):
    tau, decay_input = draw.choice([1.5, 2.0, 3.3, 100.0]), draw.random() < 0.5
    match kind:
        case "IFNode":
            return neuron.IFNode(**leaky_options(draw))
        case "LIFNode":
            return neuron.LIFNode(tau, decay_input, **leaky_options(draw))
        case "ParametricLIFNode":
            return neuron.ParametricLIFNode(tau, decay_input, **leaky_options(draw))
        case "MaskedPSN":
            node = neuron.MaskedPSN(draw.choice([1, 2, 5, 80]), T, lambda_init=1.0)
        case "SlidingPSN":
            node = neuron.SlidingPSN(draw.choice([1, 2, 5, 80]), exp_init=draw.random() < 0.5)
    nn.init.normal_(node.weight, std=0.7)
    nn.init.uniform_(node.bias, -0.6, 0.3)
    return node


def random_net(kind, T, seed):
    """A net with three layers of one kind of neuron, dense or convolutional, and the features of its input."""
    draw = random.Random(f"{kind} {T} {seed}")
    nodes = [random_neuron(kind, T, draw) for _ in range(3)]
    if seed % 2:
        axes = draw.choice([1, 2])
        conv, norm, pool = (getattr(layer, f"{name}{axes}d") for name in ("Conv", "BatchNorm", "AvgPool"))
        layers = [
            *(conv(2, 4, 3, padding=1, stride=draw.choice([1, 2]), bias=False), norm(4), nodes[0]),
            *(conv(4, 4, 3, padding=1, groups=2), norm(4), nodes[1], pool(2)),
            *(layer.Flatten(), layer.Dropout(0.5)),
        ]
        size = 8 // 2 // layers[0].stride[0]
        return multi_step(*layers, layer.Linear(4 * size**axes, 5), nodes[2]), (2, *[8] * axes)
    norm = draw.choice([layer.BatchNorm1d, lambda n: layer.ThresholdDependentBatchNorm1d(1.0, 1.0, n)])
    layers = [layer.Linear(6, 10), norm(10), nodes[0], layer.Dropout(0.2), layer.Linear(10, 8, bias=False), norm(8)]
    return multi_step(*layers, nodes[1], layer.Linear(8, 4), nodes[2]), (6,)


KINDS = pytest.mark.parametrize("kind", ["IFNode", "LIFNode", "ParametricLIFNode", "MaskedPSN", "SlidingPSN"])
ALL_STEPS = pytest.mark.parametrize("T", STEPS)


@pytest.mark.rows(8)
@KINDS
@ALL_STEPS
@pytest.mark.parametrize("seed", range(4))
def test_not_one_spike_differs(kind, T, seed):
    net, features = random_net(kind, T, seed)
    spikes = check_machine(net, features, T, seed)
    assert T <= 2 or any(0 < s.mean() < 1 for s in spikes.values())


@pytest.mark.rows(3)
@pytest.mark.full
@KINDS
@pytest.mark.parametrize("T", [pytest.param(T, marks=pytest.mark.nightly) if T in (2, 33) else T for T in STEPS])
@pytest.mark.parametrize("seed", [4, 5], ids=["dense", "conv"])
def test_not_one_spike_differs_in_onnxruntime(kind, T, seed, tmp_path):
    net, features = random_net(kind, T, seed)
    check_everywhere(net, features, T, tmp_path)


@pytest.mark.full
@pytest.mark.rows(10)
@pytest.mark.parametrize("tau", [None, 1.5, 2.0, 3.3, 100.0])
@pytest.mark.parametrize("v_reset", [None, 0.0, 0.4, -0.7])
@pytest.mark.parametrize("decay_input", [False, True], ids=["raw", "decay"])
@pytest.mark.parametrize("v_threshold", [0.6, 1.0])
def test_every_option_of_leaky_neurons(tau, v_reset, decay_input, v_threshold):
    options = {"v_threshold": v_threshold, "v_reset": v_reset}
    scale = tau if decay_input and tau else 1.0
    nodes = [neuron.IFNode(**options)]
    if tau is not None:
        nodes = [kind(tau, decay_input, **options) for kind in (neuron.LIFNode, neuron.ParametricLIFNode)]
    for node in nodes:
        assert fires(check_machine(multi_step(node), (5,), 33, scale=scale))


@pytest.mark.parametrize(
    ("node", "x"),
    [
        (neuron.IFNode(), 1.0),
        (neuron.LIFNode(2.0), 2.0),
        (neuron.ParametricLIFNode(2.0), 2.0),
        (neuron.LIFNode(2.0, False, v_reset=0.5), 0.5),
        (neuron.SlidingPSN(1), 1.0),
        (neuron.MaskedPSN(1, 1, 1.0), 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_very_threshold_fires(node, x):
    if isinstance(node, neuron.MaskedPSN):
        nn.init.ones_(node.weight)
    net = multi_step(node)
    x = torch.full((1, 2, 3), x)
    assert net(x).mean() == 1
    functional.reset_net(net)
    assert psu.to_state_machine(net, (3,)).run(x).mean() == 1


# -- as people write them -----------------------------------------------------------------------------------------


def parts():
    """Layers for the forwards below: torch's own and SpikingJelly's."""
    return {
        "conv": nn.Conv2d(2, 4, 3, bias=False),
        "bn": nn.BatchNorm2d(4),
        "sn": neuron.LIFNode(decay_input=False, step_mode="m"),
        "same": layer.Conv2d(4, 4, 3, padding=1, step_mode="m"),
        "sn2": neuron.IFNode(step_mode="m"),
        "pool": layer.AdaptiveAvgPool2d((1, 1), step_mode="m"),
        "fc": layer.Linear(4, 3),
    }


def by_hand(net, x_seq):
    return net.sn(functional.seq_to_ann_forward(x_seq, [net.conv, net.bn])).mean(0)


def reset_first(net, x_seq):
    functional.reset_net(net)
    return by_hand(net, x_seq)


def folded_by_hand(net, x_seq):
    T, B = x_seq.shape[0], x_seq.shape[1]
    y = net.bn(net.conv(x_seq.flatten(0, 1)))
    return net.sn(y.view(T, B, 4, 4, 4)).sum(0)


def unflattened_by_hand(net, x_seq):
    T, B, C, H, W = x_seq.shape
    y = net.bn(net.conv(x_seq.reshape(T * B, C, H, W)))
    return net.sn(y.unflatten(0, (T, B)).contiguous())[-1]


def residual(net, x_seq):
    y = net.sn(functional.seq_to_ann_forward(x_seq, (net.conv, net.bn)))
    return net.sn2(net.same(y) + y)


def residual_in_place(net, x_seq):
    identity = net.sn(functional.seq_to_ann_forward(x_seq, (net.conv, net.bn)))
    out = net.same(identity)
    out += identity
    return net.sn2(out)


def spike_element_wise(net, x_seq):
    y = net.sn(functional.seq_to_ann_forward(x_seq, (net.conv, net.bn)))
    return net.fc(net.pool(net.sn2(net.same(y)) * (1.0 - y)).flatten(2)).mean(0)


def rate_behind_the_readout(net, x_seq):
    y = net.sn(functional.seq_to_ann_forward(x_seq, (net.conv, net.bn)))
    return net.fc(torch.flatten(net.pool(y), 2).mean(0))


FORWARDS = (
    *(by_hand, reset_first, folded_by_hand, unflattened_by_hand),
    *(residual, residual_in_place, spike_element_wise, rate_behind_the_readout),
)


@pytest.mark.full
@pytest.mark.parametrize("forward", FORWARDS, ids=lambda forward: forward.__name__)
def test_ways_to_write_forward(forward, tmp_path):
    net = trained(Forward(forward, **parts()))
    used = {"sn"} if "sn2" not in forward.__code__.co_names else {"sn", "sn2"}
    spikes = check_machine(net, (2, 6, 6), 9)
    assert spikes.keys() == used
    assert fires(spikes)
    check_everywhere(net, (2, 6, 6), 9, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("room", [nn, layer], ids=["torch", "spikingjelly"])
@pytest.mark.parametrize(
    "container",
    [layer.SeqToANNContainer, lambda *layers: layer.StepModeContainer(False, "m", *layers)],
    ids=["SeqToANNContainer", "StepModeContainer"],
)
def test_containers_that_fold_time(container, room, tmp_path):
    net = nn.Sequential(
        container(room.Conv2d(2, 4, 3, bias=False), room.BatchNorm2d(4)),
        neuron.LIFNode(step_mode="m"),
        container(room.MaxPool2d(2), room.Flatten(), room.Dropout(0.5), room.Linear(16, 3), room.BatchNorm1d(3)),
        neuron.IFNode(step_mode="m"),
    )
    assert fires(check_machine(trained(net), (2, 6, 6), 9))
    check_everywhere(net, (2, 6, 6), 9, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("pool", ["AvgPool", "MaxPool", "AdaptiveAvgPool"])
def test_pools(pool, axes, tmp_path):
    conv, size = getattr(layer, f"Conv{axes}d"), (2, *[8] * axes)
    net = multi_step(conv(2, 4, 3, padding=1), neuron.IFNode(), getattr(layer, f"{pool}{axes}d")(2), layer.Flatten())
    assert fires(check_machine(net, size, 7))
    check_everywhere(net, size, 7, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("norm", ["BatchNorm", "ThresholdDependentBatchNorm"])
@pytest.mark.parametrize("axes", [1, 2])
def test_norms(norm, axes, tmp_path):
    options = (1.0, 0.8) if norm.startswith("Threshold") else ()
    conv, norm = getattr(layer, f"Conv{axes}d"), getattr(layer, f"{norm}{axes}d")
    net = multi_step(conv(2, 4, 3, bias=False), norm(*options, 4), neuron.IFNode())
    assert fires(check_machine(net, (2, *[8] * axes), 7))
    check_everywhere(net, (2, *[8] * axes), 7, tmp_path)


@pytest.mark.full
def test_votes_of_neighbours_and_no_vote_for_the_rest(tmp_path):
    net = multi_step(layer.Linear(4, 23), neuron.IFNode(), layer.VotingLayer(5))
    assert fires(check_machine(net, (4,), 7))
    assert psu.to_state_machine(net, (4,)).shapes["2"] == (4,)
    check_everywhere(net, (4,), 7, tmp_path)


def test_a_neuron_alone():
    assert fires(check_machine(neuron.LIFNode(step_mode="m"), (5,), 33))


@pytest.mark.full
def test_a_network_of_the_library(tmp_path):
    from spikingjelly.activation_based.model.parametric_lif_net import MNISTNet

    net = MNISTNet(2, neuron.ParametricLIFNode, init_tau=2.0, decay_input=False, v_threshold=0.3, detach_reset=True)
    functional.set_step_mode(net, "m")
    assert fires(check_machine(trained(net), (1, 28, 28), 5))
    check_everywhere(net, (1, 28, 28), 5, tmp_path)


@pytest.fixture
def blocks(monkeypatch):
    """The residual blocks of the library; of torchvision its nets use a download only, which nobody calls here."""
    download = ModuleType("torchvision._internally_replaced_utils")
    download.load_state_dict_from_url = None
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, download.__name__, download)
    return spikingjelly("model.spiking_resnet"), spikingjelly("model.sew_resnet")


@pytest.mark.full
@pytest.mark.parametrize("connect", [None, "ADD", "AND", "IAND"])
def test_residual_blocks_of_the_library(blocks, connect, tmp_path):
    resnet, sew = blocks
    options = {"spiking_neuron": neuron.IFNode, "v_threshold": 0.5, "surrogate_function": surrogate.ATan()}
    block = resnet.BasicBlock(4, 4, **options) if connect is None else sew.BasicBlock(4, 4, cnf=connect, **options)
    net = multi_step(layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4), neuron.IFNode(), block)
    assert fires(check_machine(net, (2, 6, 6), 7))
    check_everywhere(net, (2, 6, 6), 7, tmp_path)


# -- loops over time, and pictures that a network shows by itself ---------------------------------------------------


def summed(net, picture, steps):
    total = 0
    for _ in range(steps):
        total = total + net.fc(net.sn(net.bn(net.conv(picture))).flatten(1))
    return total / steps


def stacked(net, picture, steps):
    still = net.bn(net.conv(picture))
    return torch.stack([net.fc(net.sn(still).flatten(1)) for _ in range(steps)]).mean(0)


def last_of(net, picture, steps):
    still = net.bn(net.conv(picture))
    for _ in range(steps):
        out = net.sn2(net.fc(net.sn(still).flatten(1)))
    return out


@pytest.mark.full
@pytest.mark.rows(3)
@pytest.mark.parametrize("steps", [2, 4, 9])
@pytest.mark.parametrize("forward", [summed, stacked, last_of], ids=lambda forward: forward.__name__)
def test_a_picture_shown_in_a_loop_of_single_steps(forward, steps, tmp_path):
    """The number of steps is nowhere but in the network's own loop."""
    parts = {"conv": nn.Conv2d(2, 4, 3), "bn": nn.BatchNorm2d(4), "sn": neuron.LIFNode(), "fc": nn.Linear(64, 5)}
    parts |= {"sn2": neuron.IFNode(v_threshold=0.2)} if forward is last_of else {}
    net = trained(Forward(lambda net, picture: forward(net, picture, steps), **parts))
    spikes = check_machine(net, (2, 6, 6), steps, scale=3.0, picture=True)
    assert 0 < spikes["sn"].mean() < 1
    check_everywhere(net, (2, 6, 6), steps, tmp_path, picture=True)


@pytest.mark.full
def test_two_neurons_alike_of_one_input_are_two():
    def forward(net, x_seq):
        return torch.stack([net.b(net.sn(x)) + net.a(net.other(x)) for x in x_seq])

    parts = {"sn": neuron.IFNode(), "other": neuron.IFNode(), "a": nn.Linear(5, 3), "b": nn.Linear(5, 3)}
    spikes = check_machine(Forward(forward, **parts), (5,), 7)
    assert spikes.keys() == {"sn", "other"}
    assert fires(spikes)


@pytest.mark.full
def test_an_output_beside_nothing(tmp_path):
    net = Forward(lambda net, x_seq: (net.sn(net.fc(x_seq)), None), fc=nn.Linear(5, 3), sn=neuron.IFNode(step_mode="m"))
    assert fires(check_machine(net, (5,), 7))
    check_everywhere(net, (5,), 7, tmp_path)


@pytest.mark.full
@pytest.mark.rows(1)
@pytest.mark.parametrize(
    "container",
    [
        layer.MultiStepContainer,
        lambda *layers: layer.StepModeContainer(True, "m", *layers),
    ],
    ids=["MultiStepContainer", "StepModeContainer"],
)
def test_containers_that_loop_over_time(container, tmp_path):
    net = container(nn.Linear(5, 8), nn.BatchNorm1d(8), neuron.LIFNode(v_reset=0.1), nn.Linear(8, 3), neuron.IFNode())
    assert fires(check_machine(trained(net), (5,), 9))
    check_everywhere(net, (5,), 9, tmp_path)


@pytest.mark.full
def test_a_container_with_time_last():
    def forward(net, x_seq):
        return net.last(x_seq.permute(1, 2, 0)).permute(2, 0, 1)

    net = Forward(forward, last=layer.TLastMultiStepContainer(nn.Linear(5, 3), neuron.IFNode()))
    assert fires(check_machine(net, (5,), 9))


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("mode", ["s", "m"])
def test_delays(steps, mode):
    layers = layer.Linear(5, 5), neuron.IFNode(), layer.Delay(steps), layer.Linear(5, 3), neuron.IFNode()
    net = multi_step(*layers) if mode == "m" else layer.MultiStepContainer(*layers)
    assert fires(check_machine(net, (5,), 9))


@pytest.mark.full
@pytest.mark.parametrize(
    ("layers", "features"),
    [
        (lambda: [layer.WSConv2d(2, 4, 3), neuron.IFNode(), layer.Flatten(), layer.WSLinear(64, 5)], (2, 6, 6)),
        (lambda: [layer.WSConv2d(2, 4, 3, gain=False, bias=False)], (2, 6, 6)),
        (
            lambda: [layer.Conv3d(2, 4, 3, padding=1), layer.BatchNorm3d(4), neuron.IFNode(), layer.MaxPool3d(2)],
            (2, 4, 4, 4),
        ),
        (lambda: [layer.Conv3d(2, 4, 3), layer.ThresholdDependentBatchNorm3d(1.0, 1.0, 4)], (2, 4, 4, 4)),
        (lambda: [neuron.IFNode(), layer.AvgPool3d(2), layer.AdaptiveAvgPool3d(1)], (2, 4, 4, 4)),
        (lambda: [layer.ConvTranspose1d(2, 4, 3)], (2, 5)),
        (lambda: [layer.ConvTranspose2d(2, 4, 3), layer.Upsample(scale_factor=2), layer.GroupNorm(2, 4)], (2, 4, 4)),
        (lambda: [layer.PrintShapeModule(), layer.Linear(5, 3)], (5,)),
    ],
)
def test_layers_that_torch_has_too(layers, features, tmp_path):
    torch.manual_seed(0)
    net = multi_step(*layers(), neuron.IFNode(v_threshold=0.5))
    assert fires(check_machine(net, features, 7))
    check_everywhere(net, features, 7, tmp_path)


# -- what a neuron remembers --------------------------------------------------------------------------------------


def memorable():
    return multi_step(
        *(layer.Conv2d(2, 4, 3), layer.BatchNorm2d(4), neuron.LIFNode(store_v_seq=True)),
        *(layer.Flatten(), layer.Dropout(0.5), layer.Linear(64, 5), neuron.ParametricLIFNode(v_reset=None)),
        *(layer.Linear(5, 5), neuron.SlidingPSN(3), layer.Linear(5, 5), neuron.MaskedPSN(2, 7, 1.0)),
    )


def everything(net):
    """What may not change: modes, hooks, and the very objects that modules remember."""
    found = []
    for module in net.modules():
        memories = getattr(module, "_memories", None)
        hooks = len(module._forward_hooks), len(module._forward_pre_hooks)
        found.append((module.training, hooks, id(memories), {k: id(v) for k, v in (memories or {}).items()}))
        found.append(id(getattr(module, "v_seq", None)))
    return found


def numbers(net):
    """Parameters, statistics and memories, as they are now."""
    memories = [getattr(module, "_memories", {}) for module in net.modules()]
    return deepcopy(
        {
            **net.state_dict(),
            **{f"{i} {k}": v.detach() for i, m in enumerate(memories) for k, v in m.items() if hasattr(v, "detach")},
            **{f"{i} {k}": torch.tensor(len(v)) for i, m in enumerate(memories) for k, v in m.items() if v == []},
        }
    )


def use(net, folder):
    psu.to_state_machine(net, (2, 6, 6))
    artifact = psu.export(net, folder / "net.onnx", input_shape=(2, 6, 6))
    assert psu.verify(net, artifact, currents(7, (2, 6, 6))).ok


def refuse(net, folder):
    net.append(nn.Tanhshrink())
    with pytest.raises(psu.UnsupportedModelError, match="Tanhshrink"):
        psu.to_state_machine(net, (2, 6, 6))


@pytest.mark.full
@pytest.mark.parametrize("action", [use, refuse])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("has_run", [True, False], ids=["has run", "fresh"])
def test_a_net_is_left_as_it_was(action, training, has_run, tmp_path):
    net = memorable().train(training)
    if has_run:
        net(currents(7, (2, 6, 6), B=2))
    before, values = everything(net), numbers(net)
    assert any(key.endswith(" v") for key in values) is has_run
    action(net, tmp_path)
    assert everything(net)[: len(before)] == before
    after = numbers(net)
    assert after.keys() == values.keys()
    assert all(torch.equal(after[key], values[key]) for key in values)


@pytest.mark.full
def test_what_was_learned_from_a_step_before_can_still_be_learned_from():
    net = memorable()
    net(currents(7, (2, 6, 6)))
    psu.to_state_machine(net, (2, 6, 6))
    net[2].v.sum().backward()
    assert net[0].weight.grad.abs().sum() > 0


@pytest.mark.full
def test_what_a_net_remembers_is_not_captured(tmp_path):
    net = memorable()
    fresh = psu.to_state_machine(net, (2, 6, 6))
    net.eval()(currents(7, (2, 6, 6), B=3))
    assert psu.to_state_machine(net, (2, 6, 6)).content_hash == fresh.content_hash
    check_everywhere(net, (2, 6, 6), 7, tmp_path)


def test_at_rest_a_net_does_what_it_does_after_reset():
    """One neuron called twice goes on in its second call from where the first left it."""

    def twice(net, x_seq):
        return net.sn(net.b(net.sn(net.a(x_seq))))

    net = Forward(twice, a=nn.Linear(5, 5), b=nn.Linear(5, 5), sn=neuron.IFNode(v_reset=None, step_mode="m"))
    x = currents(9, (5,))
    expected, _ = spikes_of(net, x)
    assert expected.mean() > 0
    net(x)
    with at_rest(net):
        assert torch.equal(net(x), expected)
        assert torch.equal(net(x), expected)
        fired = net.sn(x)
        assert torch.equal(net.sn(x), fired)


def test_a_call_that_fails_is_over():
    net = multi_step(nn.Linear(5, 5), neuron.IFNode())
    x = currents(9, (5,))
    expected, _ = spikes_of(net, x)
    with at_rest(net):
        with pytest.raises(RuntimeError):
            net(currents(9, (4,)))
        net(x)
        assert torch.equal(net(x), expected)


def test_memories_of_other_libraries_are_none_of_our_business():
    net = nn.Sequential(nn.Linear(5, 5), neuron.IFNode(step_mode="m"))
    net._memories = {"mine": 1}
    check_machine(net, (5,), 7)
    assert net._memories == {"mine": 1}
