"""The chain of blocks computes what the machine does, in real numbers; what it cannot, it refuses by name."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.exporters.integers.lower import lower
from psu_deploy.exporters.integers.real_network import Gate, RealConv, RealDense
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from tests import zoo
from tests.exporters.integers import networks, oracle


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


T = 6
NONE = ((0, 0), (0, 0))
PSU = zoo.neuron(zoo.LEAK, None, zoo.STRICT, threshold=0.1)
RPSU = zoo.neuron(zoo.LEAK, zoo.LEARNED, zoo.STRICT, fire_on=">")
SLIDING = zoo.neuron(o.Window(normal(1, 3), np.zeros(1), time_invariant=True), None, None, threshold=0.3)
LIF = ops.LIFNeuron(2.0, True, 0.2, "soft", ">=")


def linear(outputs, inputs, bias=True):
    return ops.Linear(normal(outputs, inputs) / inputs**0.5, normal(outputs) if bias else None)


def conv(outputs, inputs, kernel=(3, 3), stride=(1, 1), padding=NONE, dilation=(1, 1), groups=1, bias=True):
    weight = normal(outputs, inputs // groups, *kernel)
    return ops.Conv2d(weight, normal(outputs) if bias else None, stride, padding, dilation, groups)


def mean(kernel=(2, 2), stride=None, padding=NONE, count_padding=True):
    return ops.AvgPool(kernel, stride or kernel, padding, count_padding)


def affine(channels):
    return ops.ChannelAffine(normal(channels), normal(channels, seed=1))


FLAT, POOL = ops.Flatten(), mean()
OVERLAPPING = mean((3, 3), (2, 2))
IMAGE = (2, 8, 8)
DENSE, CONV = RealDense, RealConv

SEQUENCES = {
    # name: (features, layers, (name, synapse, kind of neuron) of every block)
    "linear": ((5,), [linear(3, 5)], [("l0", DENSE, None)]),
    "linear, neuron": ((5,), [linear(4, 5), PSU], [("l1", DENSE, ops.SpikingNeuron)]),
    "a neuron on the input": ((5,), [PSU], [("l0", DENSE, ops.SpikingNeuron)]),
    "a neuron on an image": ((2, 4, 3), [LIF], [("l0", CONV, ops.LIFNeuron)]),
    "a neuron on a row": ((2, 7), [PSU], [("l0", CONV, ops.SpikingNeuron)]),
    "a neuron on four axes": ((2, 2, 3, 2), [PSU], [("l0", DENSE, ops.SpikingNeuron)]),
    "a neuron after a neuron": (
        (5,),
        [linear(4, 5), PSU, LIF, RPSU],
        [("l1", DENSE, 0), ("l2", DENSE, 0), ("l3", DENSE, 0)],
    ),
    "a neuron after a neuron on images": (
        IMAGE,
        [conv(3, 2), PSU, SLIDING, FLAT, linear(4, 108)],
        [("l1", CONV, 0), ("l2", CONV, 0), ("l4", DENSE, None)],
    ),
    "two linears": ((5,), [linear(4, 5), linear(3, 4), PSU], [("l2", DENSE, 0)]),
    "two linears without bias": ((5,), [linear(4, 5, bias=False), linear(3, 4, bias=False)], [("l1", DENSE, None)]),
    "three linears behind a flattened image": (
        IMAGE,
        [FLAT, linear(6, 128), linear(5, 6), linear(4, 5), PSU],
        [("l4", DENSE, 0)],
    ),
    "norm behind linear": (
        (5,),
        [linear(4, 5), affine(4), PSU, linear(3, 4), affine(3)],
        [("l2", DENSE, 0), ("l3", DENSE, None)],
    ),
    "norm between linears": ((5,), [linear(4, 5), affine(4), linear(3, 4), affine(3), PSU], [("l4", DENSE, 0)]),
    "norm behind a convolution": (IMAGE, [conv(3, 2), affine(3), PSU], [("l2", CONV, 0)]),
    "norm behind convolution and pooling": (IMAGE, [conv(4, 2, groups=2), POOL, affine(4), PSU], [("l3", CONV, 0)]),
    "flatten of an image on the input": (IMAGE, [FLAT, linear(4, 128), PSU], [("l2", DENSE, 0)]),
    "flatten of an image, and nothing else": ((2, 3, 2), [FLAT], [("identity", CONV, None)]),
    "flatten of an image, then a neuron": (
        (2, 3, 2),
        [FLAT, PSU, linear(3, 12), PSU],
        [("l1", CONV, 0), ("l3", DENSE, 0)],
    ),
    "flatten of flat": (
        (5,),
        [FLAT, linear(4, 5), FLAT, PSU, FLAT, linear(3, 4), FLAT],
        [("l3", DENSE, 0), ("l5", DENSE, None)],
    ),
    "flatten between convolution and neuron": (
        (2, 4, 4),
        [conv(3, 2), FLAT, PSU, linear(3, 12)],
        [("l2", CONV, 0), ("l3", DENSE, None)],
    ),
    "flatten of a row": ((2, 5), [FLAT, linear(3, 10), PSU], [("l2", DENSE, 0)]),
    "flatten of four axes": ((2, 2, 3, 2), [FLAT, linear(3, 24), PSU], [("l2", DENSE, 0)]),
    "pooling on the input, then weights": (IMAGE, [POOL, FLAT, linear(4, 32), PSU], [("l3", DENSE, 0)]),
    "two poolings, then weights": (IMAGE, [POOL, mean((2, 1), (1, 1)), FLAT, linear(4, 24), PSU], [("l4", DENSE, 0)]),
    "padding that does not count, then weights": (
        IMAGE,
        [mean((3, 3), (2, 2), ((1, 1), (1, 0)), count_padding=False), FLAT, linear(4, 32), PSU],
        [("l3", DENSE, 0)],
    ),
    "pooling, then a convolution": (
        IMAGE,
        [conv(3, 2), PSU, POOL, conv(4, 3), PSU],
        [("l1", CONV, 0), ("l4", CONV, 0)],
    ),
    "pooling, then a padded convolution": (
        IMAGE,
        [POOL, conv(4, 2, padding=((1, 1), (1, 1))), PSU],
        [("l2", CONV, 0)],
    ),
    "overlapping pooling, then a padded convolution": (
        IMAGE,
        [conv(2, 2), PSU, OVERLAPPING, conv(3, 2, (2, 2), padding=((1, 0), (1, 1))), PSU],
        [("l1", CONV, 0), ("l3.pooled", CONV, None), ("l4", CONV, 0)],
    ),
    "two poolings, then a convolution": (
        (2, 9, 9),
        [OVERLAPPING, POOL, conv(3, 2, (2, 2)), PSU],
        [("pool0", CONV, None), ("l2.pooled", CONV, None), ("l3", CONV, 0)],
    ),
    "three poolings before a neuron": (
        (2, 9, 9),
        [PSU, OVERLAPPING, mean((2, 2), (1, 1)), mean((1, 2), (1, 1)), PSU],
        [("l0", CONV, 0), ("pool1", CONV, None), ("pool2", CONV, None), ("l4", CONV, 0)],
    ),
    "pooling before a neuron": (IMAGE, [OVERLAPPING, PSU], [("l1", CONV, 0)]),
    "pooling as the last layer": (IMAGE, [conv(3, 2), PSU, POOL], [("l1", CONV, 0), ("l2", CONV, None)]),
    "pooling as the only layer": (IMAGE, [mean((3, 2), (1, 2), ((1, 1), (0, 1)))], [("l0", CONV, None)]),
    "two poolings at the end": (
        IMAGE,
        [PSU, POOL, POOL, FLAT],
        [("l0", CONV, 0), ("pool1", CONV, None), ("l2", CONV, None)],
    ),
    "sum as the last layer": (
        IMAGE,
        [conv(3, 2), PSU, ops.SumPool((2, 3), (1, 2), ((1, 0), (0, 0)))],
        [("l1", CONV, 0), ("l2", CONV, None)],
    ),
    "pooling behind a convolution": (
        IMAGE,
        [conv(3, 2, stride=(2, 1), dilation=(1, 2)), OVERLAPPING, PSU],
        [("l2", CONV, 0)],
    ),
    "sum behind a convolution": (
        IMAGE,
        [conv(3, 2), ops.SumPool((2, 2), (2, 1), NONE), affine(3), PSU],
        [("l3", CONV, 0)],
    ),
    "two poolings behind a convolution": (IMAGE, [conv(3, 2), POOL, mean((2, 2), (1, 1)), PSU], [("l3", CONV, 0)]),
    "maximum of spikes": (
        IMAGE,
        [conv(3, 2), PSU, ops.MaxPool((2, 2), (2, 2), NONE), conv(4, 3, (2, 2)), PSU],
        [("l1", CONV, 0), ("l2", CONV, Gate), ("l4", CONV, 0)],
    ),
    "maximum of a maximum, padded": (
        IMAGE,
        [PSU, ops.MaxPool((3, 3), (2, 2), ((1, 1), (1, 1))), ops.MaxPool((2, 2), (1, 1), ((0, 1), (0, 0))), FLAT],
        [("l0", CONV, 0), ("l1", CONV, Gate), ("l2", CONV, Gate)],
    ),
    "uneven padding": (IMAGE, [conv(3, 2, (2, 3), (2, 1), ((1, 0), (0, 2)), (2, 2)), PSU], [("l1", CONV, 0)]),
    "rows": (
        (3, 12),
        [
            ops.Conv1d(normal(4, 3, 3), normal(4), (1,), ((1, 1),), (1,), 1),
            PSU,
            ops.AvgPool((2,), (2,), ((0, 0),)),
            ops.Conv1d(normal(6, 2, 2), None, (2,), ((1, 1),), (1,), 2),
            RPSU,
            ops.MaxPool((2,), (1,), ((0, 0),)),
            FLAT,
            linear(3, 18),
        ],
        [("l1", CONV, 0), ("l4", CONV, 0), ("l5", CONV, Gate), ("l7", DENSE, None)],
    ),
    "filter at the end": (
        (5,),
        [linear(4, 5), PSU, linear(3, 4), ops.Filter(zoo.LEAK)],
        [("l1", DENSE, 0), ("l3", DENSE, ops.Filter)],
    ),
    "filter of spikes": (
        IMAGE,
        [PSU, ops.Filter(zoo.BIASED_TRACES), FLAT],
        [("l0", CONV, 0), ("l1", CONV, ops.Filter)],
    ),
    "filter of the input": ((5,), [ops.Filter(zoo.LEARNED)], [("l0", DENSE, ops.Filter)]),
    "mean over time": (
        (5,),
        [linear(4, 5), PSU, linear(3, 4), ops.Readout("mean")],
        [("l1", DENSE, 0), ("l2", DENSE, None)],
    ),
    "sum over time of a filter": (
        (5,),
        [linear(4, 5), ops.Filter(zoo.SLIDING), ops.Readout("sum")],
        [("l1", DENSE, ops.Filter)],
    ),
    "the last of an image, flattened": (IMAGE, [PSU, ops.Readout("last"), FLAT], [("l0", CONV, 0)]),
    "static input": (
        IMAGE,
        [conv(3, 2), affine(3), ops.Hold(), PSU, FLAT, linear(3, 108)],
        [("l3", CONV, 0), ("l5", DENSE, None)],
    ),
    "static input, pooled": (IMAGE, [POOL, ops.Hold(), conv(3, 2), PSU], [("l3", CONV, 0)]),
}


def sequence(machine, samples=3, seed=0):
    x = np.random.default_rng(seed).normal(0.3, 1.5, (T, samples, *machine.input_shape))
    return np.repeat(x[:1], T, axis=0) if machine.static_input else x


def check(machine, x):
    """Every block that is a layer of the machine sends what it does, in float64; so does the network."""
    chain = lower(machine)
    trace = machine.trace(x)
    sent, output = oracle.run(chain, x)
    by_name = dict(zip([block.name for block in chain.blocks], sent, strict=True))
    for name in machine.spiking:
        spikes = trace.spikes[name]
        assert 0 < spikes.mean() < 1
        np.testing.assert_array_equal(by_name[name].reshape(spikes.shape), spikes)
    np.testing.assert_allclose(output.reshape(trace.output.shape), trace.output, rtol=1e-11, atol=1e-11)
    return chain


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_chain_is_its_machine(name):
    features, layers, blocks = SEQUENCES[name]
    machine = oracle.machine(features, *layers)
    chain = check(machine, sequence(machine))
    assert [(b.name, type(b.synapse)) for b in chain.blocks] == [(name, synapse) for name, synapse, _ in blocks]
    for block, (_, _, kind) in zip(chain.blocks, blocks, strict=True):
        assert kind == 0 or (block.neuron is None if kind is None else isinstance(block.neuron, kind))
    # numbers of a machine are its own: nothing was folded into them
    again = oracle.machine(features, *layers)
    assert machine.content_hash == again.content_hash


@pytest.mark.full
@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed):
    machine = networks.machine(seed, T)
    chain = lower(machine)
    x = networks.spikes(machine, T, 3, seed, ("binary", "counts", "real")[seed % 3]).astype(np.float64)
    sent, output = oracle.run(chain, x)
    trace = machine.trace(x)
    for block, numbers in zip(chain.blocks, sent, strict=True):
        if block.name in trace.spikes:
            spikes = trace.spikes[block.name]
            np.testing.assert_array_equal(numbers.reshape(spikes.shape), spikes)
    assert {block.name for block in chain.blocks} >= set(machine.spiking)
    np.testing.assert_allclose(output.reshape(trace.output.shape), trace.output, rtol=1e-9, atol=1e-9)


def test_batch_norm_behind_a_pooling_is_captured_and_lowered():
    model = psu.SpikingSequential(
        nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.BatchNorm2d(3), psu.PSU(threshold=0.1), nn.Flatten(), nn.Linear(27, 2)
    ).eval()
    nn.init.uniform_(model[2].weight, 0.5, 2.0)
    nn.init.normal_(model[2].bias)
    machine = psu.to_state_machine(model, IMAGE)
    check(machine, sequence(machine))


REFUSED = ("bernoulli", "minus one")
"""Loihi has no noise, and decays of 0 to 1."""


@pytest.mark.parametrize("kind", [kind for kind in zoo.NEURONS if not any(word in kind for word in REFUSED)])
def test_every_neuron(kind):
    """Estimators, operators and resets of every kind."""
    neuron = zoo.NEURONS[kind]
    machine = oracle.machine((4,), linear(12, 4), neuron, linear(3, 12))
    x = sequence(machine, 8)[: machine.max_steps]
    sent, output = oracle.run(lower(machine), x)
    trace = machine.trace(x)
    np.testing.assert_array_equal(sent[0], trace.spikes["l1"])
    np.testing.assert_allclose(output, trace.output, rtol=1e-11, atol=1e-11)


def test_a_name_that_we_would_have_given():
    """Blocks without a layer of the machine have names that are nobody else's."""
    nodes = [("pool1", PSU), ("a", OVERLAPPING), ("b", mean((2, 2), (1, 1))), ("identity", PSU)]
    befores = ["x", *(name for name, _ in nodes)]
    machine = StateMachine(
        tuple(Node(n, layer, (b,)) for (n, layer), b in zip(nodes, befores, strict=False)), (2, 9, 9)
    )
    names = [block.name for block in lower(machine).blocks]
    assert len(set(names)) == len(names) == 3


# -- what is refused ---------------------------------------------------------------------------------------------------


def refusal(machine):
    with pytest.raises(psu.UnsupportedModelError, match="export to Lava") as error:
        lower(machine)
    return [(p.path, p.kind, p.reason, p.remedy) for p in error.value.problems]


REFUSED = {
    "relu": (
        (5,),
        [linear(4, 5), ops.Activation("relu")],
        "l1",
        "no layer for it",
        "a spiking neuron, or export to ONNX",
    ),
    "sigmoid": ((5,), [ops.Activation("sigmoid")], "l0", "no layer for it", "a spiking neuron"),
    "delay": ((5,), [linear(4, 5), PSU, ops.Delay(2), linear(3, 4)], "l2", "no delay line", "ONNX or NIR"),
    "wait": ((5,), [ops.Wait(1), linear(3, 5)], "l0", "no delay line", "export to ONNX"),
    "convolution along time": (
        (5,),
        [ops.TimeConv(normal(4, 5, 3), None, 1)],
        "l0",
        "no convolution along time",
        "SlidingPSN",
    ),
    "noise": ((5,), [linear(4, 5), ops.BernoulliNeuron(zoo.LEAK, 1)], "l1", "at random", "PSU or LIF"),
    "linear over an image": (
        (2, 3, 5),
        [linear(4, 5), PSU],
        "l0",
        r"reads one axis, this one (2, 3, 5)",
        "flatten before it",
    ),
    "linear over a row": ((3, 5), [linear(4, 5), PSU], "l0", r"reads one axis, this one (3, 5)", "flatten before it"),
    "numbers held": ((5,), [linear(4, 5), PSU, ops.Hold(), linear(3, 4)], "l2", "cannot hold a value", "ONNX"),
    "filter, then weights": (
        (5,),
        [linear(4, 5), ops.Filter(zoo.LEAK), linear(3, 4)],
        "l1",
        "numbers would go on",
        "the network's end",
    ),
    "filter, then a neuron": (
        (5,),
        [linear(4, 5), ops.Filter(zoo.LEAK), PSU],
        "l1",
        "numbers would go on",
        "the network's end",
    ),
    "readout, then weights": (
        (5,),
        [linear(4, 5), PSU, ops.Readout("mean"), linear(2, 4)],
        "l2",
        "numbers would go on",
        "the network's end",
    ),
    "running maximum": (
        (5,),
        [linear(4, 5), PSU, ops.Readout("max")],
        "l2",
        "the running max of the output",
        "read out one of last, sum, mean",
    ),
    "pooling over three axes": (
        (2, 4, 4, 4),
        [ops.SumPool((2,) * 3, (2,) * 3, ((0, 0),) * 3), PSU],
        "l0",
        "a pooling over three axes",
        "export to ONNX",
    ),
    "a growing trace": (
        (5,),
        [zoo.neuron(o.Leak(0.5, 1.5), None, zoo.STRICT)],
        "l0",
        "a decay of 1.5; Loihi has 0 to 1",
        "decays in 0..1",
    ),
    "an alternating trace": (
        (5,),
        [zoo.neuron(zoo.LEAK, None, o.StrictLeak(0.5, -0.5))],
        "l0",
        "a decay of -0.5",
        "decays in 0..1",
    ),
    "one trace of three": (
        (5,),
        [ops.Filter(o.Exponentials(normal(3), np.array([0.5, 1.25, 0.1])))],
        "l0",
        "a decay of 1.25",
        "decays in 0..1",
    ),
    "two convolutions": (
        IMAGE,
        [conv(3, 2), conv(4, 3), PSU],
        "l1",
        "weights behind weights, without a neuron",
        "put a neuron between them",
    ),
    "convolution, then linear": (
        IMAGE,
        [conv(3, 2), FLAT, linear(4, 108), PSU],
        "l2",
        "weights behind weights",
        "put a neuron between them",
    ),
    "maximum of the input": (
        IMAGE,
        [ops.MaxPool((2, 2), (2, 2), NONE), conv(3, 2), PSU],
        "l0",
        "MaxPool of anything but spikes",
        "move it behind the neuron, or use AvgPool",
    ),
    "maximum of a current": (
        IMAGE,
        [conv(3, 2), ops.MaxPool((2, 2), (2, 2), NONE), PSU],
        "l1",
        "MaxPool of anything but spikes",
        "move it behind the neuron",
    ),
    "maximum of a mean of spikes": (
        IMAGE,
        [PSU, POOL, ops.MaxPool((2, 2), (2, 2), NONE)],
        "l2",
        "MaxPool of anything but spikes",
        "move it behind the neuron",
    ),
    "padded pooling of a current": (
        IMAGE,
        [conv(3, 2), mean((3, 3), (2, 2), ((1, 1), (1, 1))), PSU],
        "l1",
        "a padded pooling between weights and neuron",
        "without padding",
    ),
    "padding that does not count": (
        IMAGE,
        [mean((3, 3), (2, 2), ((1, 1), (1, 1)), count_padding=False), PSU],
        "l1",
        "does not count its padding",
        "count_include_pad=True",
    ),
    "padding that does not count, then a convolution": (
        IMAGE,
        [PSU, mean((3, 3), (2, 2), ((1, 1), (1, 1)), count_padding=False), conv(3, 2, (2, 2)), PSU],
        "l2",
        "does not count its padding",
        "count_include_pad=True",
    ),
    "norm of the input": (
        IMAGE,
        [affine(2), PSU],
        "l0",
        "a BatchNorm that is not behind weights",
        "behind a Linear or convolution",
    ),
    "norm of spikes": (
        (5,),
        [linear(4, 5), PSU, affine(4), linear(2, 4)],
        "l2",
        "a BatchNorm that is not behind weights",
        "behind a Linear or convolution",
    ),
    "norm of a pooled image": (
        IMAGE,
        [PSU, POOL, affine(2), FLAT, linear(2, 32)],
        "l2",
        "a BatchNorm that is not behind weights",
        "behind a Linear",
    ),
    "norm of a flattened convolution": (
        (2, 4, 4),
        [conv(3, 2), FLAT, affine(12), PSU],
        "l2",
        "a BatchNorm that is not behind weights",
        "behind a Linear",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_in_lava(name):
    features, layers, place, reason, remedy = REFUSED[name]
    machine = oracle.machine(features, *layers)
    ((layer, kind, said, advice),) = refusal(machine)
    # a pooling is folded into what comes behind it, where the walk stands when it finds out
    assert (layer, kind) == (place, type(layers[int(place[1:])]).__name__)
    assert reason in said
    assert remedy in advice


def test_branches():
    nodes = (
        Node("a", linear(5, 5), ("x",)),
        Node("s", PSU, ("a",)),
        Node("b", linear(5, 5), ("s",)),
        Node("sum", ops.Add(), ("b", "s")),
        Node("t", PSU, ("sum",)),
    )
    ((layer, kind, reason, remedy),) = refusal(StateMachine(nodes, (5,)))
    assert (layer, kind) == ("sum", "Add")
    assert "one chain of layers" in reason
    assert "leave the skip connection out, or export to ONNX or NIR" in remedy


def test_two_readers_of_one_layer():
    nodes = (
        Node("a", PSU, ("x",)),
        Node("b", linear(4, 5), ("a",)),
        Node("c", linear(4, 5), ("a",)),
    )
    ((layer, kind, reason, remedy),) = refusal(StateMachine(nodes, (5,), "c"))
    assert (layer, kind) == ("c", "Linear")
    assert "one chain" in reason
    assert "leave the branch out" in remedy


def test_everything_at_once():
    swinging = o.Exponentials(normal(2), np.array([-1.0, 0.5]))
    nodes = (
        Node("delay", ops.Delay(1), ("x",)),
        Node("weights", linear(5, 5), ("delay",)),
        Node("neuron", zoo.neuron(o.Leak(0.5, 1.5), swinging, zoo.STRICT), ("weights",)),
        Node("both", ops.Add(), ("neuron", "weights")),
        Node("product", ops.Multiply(), ("both", "neuron")),
        Node("relu", ops.Activation("relu"), ("product",)),
        Node("mean", ops.Readout("mean"), ("relu",)),
        Node("end", linear(2, 5), ("mean",)),
    )
    found = refusal(StateMachine(nodes, (5,)))
    assert [layer for layer, *_ in found] == ["delay", "neuron", "neuron", "both", "product", "relu", "mean"]
    assert "netx has no products of signals" in found[4][2]
    assert all(remedy for *_, remedy in found)


def test_decays_of_nothing_and_of_one_are_fine():
    neuron = zoo.neuron(o.Leak(0.5, 0.0), o.Exponentials(normal(2), np.array([1.0, 0.0])), o.StrictLeak(1.0, 1.0))
    machine = oracle.machine((4,), linear(6, 4), neuron)
    check(machine, sequence(machine))


def test_a_module_is_refused_with_its_own_names():
    model = psu.SpikingSequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), psu.PSU())
    with pytest.raises(psu.UnsupportedModelError, match=re.escape("1")) as error:
        psu.export(model, "never.net", target="lava", input_shape=(4,), calibration=np.zeros((2, 1, 4), np.float32))
    assert [problem.path for problem in error.value.problems] == ["1"]


def test_a_threshold_is_no_ones_but_its_layers():
    """Of two neurons that differ in nothing but the threshold each keeps its own."""
    machine = oracle.machine((4,), linear(6, 4), PSU, linear(6, 6), replace(PSU, threshold=0.3))
    assert [block.neuron.threshold for block in lower(machine).blocks] == [0.1, 0.3]
    assert torch.is_grad_enabled()
