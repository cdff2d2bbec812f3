"""Machines of every kind that NIR can hold, and who reads them: made by hand, and captured from modules."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.machine import Node, StateMachine, ops
from psu_deploy.machine import ops as o
from psu_deploy.numerics.staircase import sigmoid_steps
from tests.zoo import chain, normal

SIMULATORS = ("norse", "snntorch", "spikingjelly", "sinabs")
DIALECTS = ("canonical", "portable", *SIMULATORS)
ENGINES = ("canonical", *SIMULATORS)


def stairs(levels=7):
    return o.Staircase(*sigmoid_steps(levels))


def neuron(integrate, estimate=None, reset=None, *, estimator=None, threshold=0.4, fire_on=">="):
    return ops.SpikingNeuron(integrate, estimate, estimator or stairs(), reset, threshold, fire_on)


def window(order, bias=-0.2, seed=0):
    return o.Window(normal(1, order, seed=seed) + 0.3, np.array([bias]), time_invariant=True)


def lif(tau=2.0, decay_input=True, reset="hard", fire_on=">=", threshold=0.4):
    return ops.LIFNeuron(tau, decay_input, threshold, reset, fire_on)


def linear(outputs, inputs, seed=0, bias=True):
    return ops.Linear(normal(outputs, inputs, seed=seed), normal(outputs, seed=seed + 1) if bias else None)


def conv2d(out, channels, kernel, *, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1, bias=True):
    weight = normal(out, channels // groups, *kernel)
    return ops.Conv2d(weight, normal(out) if bias else None, stride, padding, dilation, groups)


def conv1d(out, channels, kernel, *, stride=1, padding=(0, 0), dilation=1, groups=1):
    return ops.Conv1d(normal(out, channels // groups, kernel), normal(out), (stride,), (padding,), (dilation,), groups)


LEAK, STRICT = o.Leak(0.5, 0.6), o.StrictLeak(0.7, 0.6)
TRACES = o.Exponentials(np.array([0.9, -0.4, 0.3]), np.array([0.9, 0.5, 0.1]))
BIASED_TRACES = o.Exponentials(np.array([0.9, -0.4, 0.3]), np.array([0.9, 0.5, 0.0]), -0.3)
MATRIX = o.PartialSums(np.tril(normal(6, 6)), normal(6))
BANDED = o.Window(normal(6, 3), normal(6), time_invariant=False)

PSU = neuron(LEAK, None, STRICT)

FAMILY = {
    **{f"psu, {k} level(s)": neuron(LEAK, None, STRICT, estimator=stairs(k)) for k in (1, 3, 7, 15)},
    "psu fires on more": neuron(LEAK, None, STRICT, fire_on=">"),
    "psu, threshold 0": neuron(LEAK, None, STRICT, threshold=0.0),
    "psu, negative threshold": neuron(LEAK, None, STRICT, threshold=-0.5, fire_on=">"),
    "psu without memory": neuron(o.Leak(1.0, 0.0), None, o.StrictLeak(1.0, 0.0)),
    "psu, a gain and no memory": neuron(o.Leak(0.5, 0.0), None, STRICT),
    "psu, steps of one height": neuron(LEAK, None, STRICT, estimator=o.Staircase(np.array([-0.4, 0.1, 0.7]), -0.2, 1)),
    "ipsu": neuron(TRACES, LEAK, STRICT),
    "ipsu with bias": neuron(BIASED_TRACES, LEAK, STRICT, fire_on=">"),
    "ipsu as coded": neuron(BIASED_TRACES, o.Identity(), STRICT, estimator=o.RawCurrent(), fire_on=">"),
    "rpsu": neuron(LEAK, TRACES, STRICT),
    "rpsu with bias": neuron(LEAK, BIASED_TRACES, STRICT, estimator=stairs(3)),
    "ppsu": neuron(TRACES, None, STRICT),
    "ppsu with bias": neuron(BIASED_TRACES, None, STRICT),
    "traces without reset": neuron(BIASED_TRACES),
    "leak without reset": neuron(LEAK, fire_on=">"),
    "identity": neuron(o.Identity()),
    "identity with reset": neuron(o.Identity(), o.Identity(), STRICT),
    "raw current, shared": neuron(LEAK, None, STRICT, estimator=o.RawCurrent()),
}
"""Neurons made of leaks: everybody reads them."""

INTEGRATING = {
    "psu that never forgets": neuron(o.Leak(0.5, 1.0), None, o.StrictLeak(0.7, 1.0)),
    "if soft": lif(None, False, "soft"),
    "if soft fires on more": lif(None, False, "soft", ">"),
}
"""Leaks that never forget: sinabs has none."""

SLIDING = {
    **{f"sliding window of {k}": neuron(window(k)) for k in (1, 2, 3, 4)},
    "sliding window, threshold 0": neuron(window(3), threshold=0.0, fire_on=">"),
    "sliding window, negative threshold": neuron(window(4), threshold=-0.4),
    "window with reset": neuron(window(3), None, STRICT),
    "two windows": neuron(window(2), window(4, seed=1), STRICT),
    "window beside the current": neuron(window(3), o.Identity(), STRICT, estimator=o.RawCurrent()),
    "the current beside a window": neuron(o.Identity(), window(3), STRICT),
    "a window that starts late": neuron(
        o.Window(np.array([[0.0, 0.0, 1.0]]), np.zeros(1), time_invariant=True), None, STRICT
    ),
}
"""Neurons with sliding windows: delays or cycles, of which sinabs has neither. A window of one needs neither."""

_KINDS = [
    *((1.0, True, ">="), (1.0, False, ">"), (1.25, True, ">"), (1.25, False, ">=")),
    *((2.0, True, ">="), (2.0, False, ">"), (3.0, True, ">"), (3.0, False, ">=")),
]
SOFT = {f"lif soft, {'' if d else 'un'}divided, {tau}, {fires}": lif(tau, d, "soft", fires) for tau, d, fires in _KINDS}
HARD = {f"lif hard, {'' if d else 'un'}divided, {tau}, {fires}": lif(tau, d, "hard", fires) for tau, d, fires in _KINDS}
IF_HARD = {"if hard": lif(None, False, "hard"), "if hard fires on more": lif(None, False, "hard", ">")}


def _between(layer):
    return chain((3,), linear(5, 3), layer, linear(2, 5, seed=4))


def _images(*layers, features=(2, 6, 5)):
    return chain(features, *layers)


FLAT_LAYERS = {
    "linear": chain((4,), linear(3, 4)),
    "linear without bias": chain((4,), linear(3, 4, bias=False)),
    "channel affine": chain((4,), ops.ChannelAffine(normal(4), normal(4)), PSU),
    "affine in front of linear": chain((4,), ops.ChannelAffine(normal(4), normal(4)), linear(3, 4), PSU),
    "linear in front of affine": chain((4,), linear(3, 4), ops.ChannelAffine(normal(3), normal(3)), PSU),
    "filter: identity": chain((3,), ops.Filter(o.Identity()), linear(4, 3), PSU),
    "filter: leak": chain((3,), ops.Filter(LEAK), linear(4, 3), PSU),
    "filter: leak at the end": chain((3,), linear(4, 3), PSU, ops.Filter(LEAK)),
    "filter: strict leak": chain((3,), ops.Filter(STRICT), linear(4, 3), PSU),
    "filter: exponentials": chain((3,), ops.Filter(TRACES), linear(4, 3), PSU),
    "filter: biased exponentials": chain((3,), ops.Filter(BIASED_TRACES), PSU),
    "readout mean": chain((3,), linear(4, 3), PSU, linear(2, 4), ops.Readout("mean")),
    "readout sum": chain((3,), linear(4, 3), PSU, linear(2, 4), ops.Readout("sum")),
    "readout last": chain((3,), linear(4, 3), PSU, linear(2, 4), ops.Readout("last")),
    "readout of spikes": chain((3,), linear(4, 3), PSU, ops.Readout("sum")),
    "two neuron layers": chain((3,), linear(6, 3), FAMILY["ipsu"], linear(5, 6), FAMILY["rpsu"], linear(2, 5)),
    "one neuron": chain((1,), PSU),
    "one weight": chain((1,), linear(1, 1)),
    "flatten of one axis": chain((4,), ops.Flatten(), linear(3, 4), PSU),
    "spikes of the input": chain((4,), neuron(o.Identity(), fire_on=">")),
}
DELAYS = {
    "delay of 1": chain((3,), linear(4, 3), PSU, ops.Delay(1), linear(2, 4)),
    "delay of 3": chain((3,), ops.Delay(3), linear(4, 3), PSU),
    "delay at the end": chain((3,), linear(4, 3), PSU, ops.Delay(2)),
    "filter: window": chain((3,), ops.Filter(window(3)), linear(4, 3), PSU),
    "time conv": chain((3,), ops.TimeConv(normal(4, 3, 3), normal(4), 1), PSU),
    "time conv without bias": chain((3,), ops.TimeConv(normal(4, 3, 2), None, 1), PSU),
    "time conv in groups": chain((4,), ops.TimeConv(normal(6, 2, 3), normal(6), 2), PSU),
}
"""Of these sinabs reads none."""

ONE_TAP = {"time conv of one step": chain((3,), ops.TimeConv(normal(4, 3, 1), normal(4), 1), PSU)}

SPIKY = neuron(o.Identity(), threshold=0.5)
IMAGES = {
    "conv2d": _images(conv2d(3, 2, (3, 3)), PSU),
    "conv2d, no bias, stride": _images(conv2d(3, 2, (3, 3), stride=(2, 1), bias=False), PSU),
    "conv2d, padding": _images(conv2d(3, 2, (3, 3), padding=((1, 1), (2, 2))), PSU),
    "conv2d, kernel (1, 3)": _images(conv2d(3, 2, (1, 3), padding=((0, 0), (1, 1))), PSU),
    "conv2d, kernel (3, 1)": _images(conv2d(3, 2, (3, 1), stride=(1, 2)), PSU),
    "conv2d, kernel (5, 3)": _images(conv2d(3, 2, (5, 3), padding=((2, 2), (1, 1))), PSU),
    "conv2d, kernel (1, 1)": _images(conv2d(3, 2, (1, 1)), PSU),
    "conv2d, even kernel, same": _images(conv2d(3, 2, (2, 2), padding=((0, 1), (0, 1))), PSU),
    "conv2d, kernel of four, same": _images(conv2d(3, 2, (4, 4), padding=((1, 2), (1, 2))), PSU),
    "conv2d, dilation": _images(conv2d(3, 2, (2, 2), dilation=(2, 3), padding=((1, 1), (2, 2))), PSU),
    "conv2d, dilated and uneven": _images(conv2d(3, 2, (2, 2), dilation=(2, 2), padding=((1, 3), (3, 1))), PSU),
    "conv2d in groups": _images(conv2d(4, 2, (3, 3), groups=2), PSU),
    "conv2d, depthwise": _images(conv2d(2, 2, (3, 3), groups=2, padding=((1, 1), (1, 1))), PSU),
    "conv2d over all": _images(conv2d(3, 2, (6, 5)), PSU),
    "channel affine on images": _images(ops.ChannelAffine(normal(2) + 2, normal(2)), PSU),
    "max of spikes": _images(SPIKY, ops.MaxPool((2, 2), (2, 2), ((0, 0), (0, 0))), conv2d(3, 2, (2, 2)), PSU),
    "max of spikes, padded": _images(SPIKY, ops.MaxPool((3, 3), (2, 2), ((1, 1), (1, 1))), conv2d(3, 2, (1, 1)), PSU),
    "max of a maximum": _images(
        SPIKY, ops.MaxPool((2, 2), (1, 1), ((0, 0),) * 2), ops.MaxPool((2, 2), (1, 1), ((0, 0),) * 2)
    ),
    "mean": _images(ops.AvgPool((2, 2), (2, 2), ((0, 0), (0, 0))), conv2d(3, 2, (1, 1)), PSU),
    "mean of spikes": _images(SPIKY, ops.AvgPool((3, 2), (1, 2), ((0, 0), (0, 0))), PSU),
    "mean, padded": _images(ops.AvgPool((3, 3), (2, 2), ((1, 1), (1, 1))), PSU),
    "mean, unevenly padded": _images(ops.AvgPool((2, 2), (1, 1), ((0, 1), (1, 0))), PSU),
    "sum": _images(ops.SumPool((2, 2), (2, 2), ((0, 0), (0, 0))), PSU),
    "sum, padded": _images(ops.SumPool((2, 3), (1, 2), ((0, 1), (1, 1))), PSU),
    "ipsu on images": _images(conv2d(3, 2, (3, 3)), FAMILY["ipsu with bias"]),
    "filter on images": _images(ops.Filter(TRACES), PSU),
    "strict filter on images": _images(ops.Filter(STRICT), conv2d(3, 2, (3, 3)), PSU),
    "lif soft on images": _images(conv2d(3, 2, (3, 3)), lif(2.0, True, "soft")),
    "window on images": _images(conv2d(3, 2, (3, 3)), SLIDING["two windows"]),
    "delay on images": _images(conv2d(3, 2, (3, 3)), PSU, ops.Delay(2)),
    "flatten, then linear": _images(conv2d(3, 2, (3, 3)), PSU, ops.Flatten(), linear(4, 36), PSU, linear(2, 4, 3)),
    "linear over an image": _images(ops.Flatten(), linear(4, 60), PSU, linear(2, 4, 3), ops.Readout("mean")),
    "flatten between neurons": _images(conv2d(2, 2, (3, 3)), ops.Flatten(), PSU, linear(3, 24), PSU),
    "flatten at the end": _images(conv2d(2, 2, (3, 3)), PSU, ops.Flatten()),
    "one pixel": chain((2, 1, 1), conv2d(3, 2, (1, 1)), PSU, ops.Flatten(), linear(2, 3)),
    "affine of flat spikes": _images(SPIKY, ops.Flatten(), linear(3, 60), ops.ChannelAffine(normal(3), normal(3)), PSU),
}
"""Features of three axes, for those that read neurons on them."""

HARD_IMAGES = {"lif hard on images": _images(conv2d(3, 2, (3, 3)), lif(2.0, False, "hard"))}

LINES = {
    "conv1d": chain((2, 7), conv1d(3, 2, 3), PSU),
    "conv1d, stride, padding": chain((2, 7), conv1d(3, 2, 3, stride=2, padding=(1, 1)), PSU),
    "conv1d, even kernel, same": chain((2, 7), conv1d(3, 2, 4, padding=(1, 2)), PSU),
    "conv1d, dilation, groups": chain((4, 9), conv1d(6, 4, 3, dilation=2, padding=(2, 2), groups=2), PSU),
    "conv1d, then flat": chain((2, 7), conv1d(3, 2, 3), PSU, ops.Flatten(), linear(2, 15)),
    "neurons on (C, L)": chain((2, 4), SLIDING["two windows"]),
    "mean over one axis": chain((2, 8), ops.AvgPool((2,), (2,), ((0, 0),)), PSU),
    "max over one axis": chain((2, 8), SPIKY, ops.MaxPool((3,), (2,), ((1, 1),))),
    "sum over one axis": chain((2, 8), ops.SumPool((3,), (2,), ((1, 0),)), PSU),
}
"""Features of two axes: Conv1d."""


def _residual(skip_first=False):
    names = ("x", "b") if skip_first else ("b", "x")
    nodes = (
        Node("a", linear(4, 4), ("x",)),
        Node("b", PSU, ("a",)),
        Node("sum", ops.Add(), names),
        Node("c", linear(3, 4, seed=2), ("sum",)),
        Node("d", PSU, ("c",)),
    )
    return StateMachine(nodes, (4,))


def _branches():
    """Two layers side by side, each with neurons of its own."""
    nodes = (
        Node("a", linear(4, 3), ("x",)),
        Node("b", PSU, ("a",)),
        Node("c", linear(4, 3, seed=5), ("x",)),
        Node("d", FAMILY["ipsu"], ("c",)),
        Node("sum", ops.Add(), ("b", "d")),
        Node("e", linear(3, 4, seed=8), ("sum",)),
        Node("f", PSU, ("e",)),
    )
    return StateMachine(nodes, (3,))


def _three():
    """A sum of three, one of them there twice, and all of it read again."""
    nodes = (
        Node("a", linear(4, 4), ("x",)),
        Node("b", PSU, ("a",)),
        Node("c", linear(4, 4, seed=3), ("b",)),
        Node("sum", ops.Add(), ("c", "b", "x")),
        Node("d", PSU, ("sum",)),
    )
    return StateMachine(nodes, (4,))


def _twice():
    """A sum in which one term is there twice, and another three times."""
    nodes = (
        Node("a", linear(4, 4), ("x",)),
        Node("double", ops.Add(), ("a", "a")),
        Node("b", PSU, ("double",)),
        Node("sum", ops.Add(), ("x", "b", "x", "x")),
        Node("c", PSU, ("sum",)),
    )
    return StateMachine(nodes, (4,))


def _clashing():
    """Layers named as the exporter names the vertices of others."""
    nodes = (
        Node("pool", ops.AvgPool((2, 2), (2, 2), ((0, 0), (0, 0))), ("x",)),
        Node("pool__sum", conv2d(2, 2, (1, 1)), ("pool",)),
        Node("b", PSU, ("pool__sum",)),
        Node("b__memory__drive", conv2d(3, 2, (2, 2)), ("b",)),
        Node("b__memory", PSU, ("b__memory__drive",)),
    )
    return StateMachine(nodes, (2, 6, 6))


SKIPS = {"residual": _residual(), "residual, the input first": _residual(skip_first=True), "sum of three": _three()}
BRANCHES = {"parallel branches": _branches()}


def _static(*layers, features=(3,)):
    nodes = [Node("in", linear(4, 3), ("x",)), Node("held", ops.Hold(), ("in",))]
    for name, layer in zip("abcdef", layers, strict=False):
        nodes.append(Node(name, layer, (nodes[-1].name,)))
    return StateMachine(tuple(nodes), features)


STATIC = {
    "static input": _static(PSU, linear(2, 4), ops.Readout("mean")),
    "static input, sliding": _static(SLIDING["two windows"], linear(2, 4)),
}

STRANGE = ("items", "state", "0", "a.b", "if", "a/b", "a b", "a_b", "ä", "input", "output", "x_1", "forward", "items.2")
LIVELY = [ops.Linear(2 * np.roll(np.eye(3), i, axis=1) - 0.4, np.full(3, 0.4)) for i in range(3)]
NAMES = {"strange names": chain((3,), *[LIVELY[i % 3] if i % 2 else PSU for i in range(14)], names=STRANGE)}

TORCH = ("train", "eval", "to", "parameters", "float", "code", "half", "modules", "state_dict")
ODD = {
    "terms that are there twice": _twice(),
    "names of vertices": _clashing(),
    "names of a torch module": chain((3,), *[PSU if i % 2 else LIVELY[i % 3] for i in range(9)], names=TORCH),
}


def _captured():
    torch.manual_seed(5)
    stairs = psu.Staircase
    unit = functools.partial(psu.PSU, estimator=stairs(7))
    dense = psu.SpikingSequential(
        nn.Linear(6, 12),
        unit(tau=2.0, threshold=0.5),
        nn.Linear(12, 10),
        psu.IPSU(8, temporal="exponentials", terms=3, bias=True, estimator=stairs(3), threshold=0.3),
        nn.Linear(10, 8),
        psu.RPSU(8, temporal="exponentials", terms=2, estimator=stairs(15), threshold=0.1),
        nn.Linear(8, 3),
    )
    image = psu.SpikingSequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        unit(threshold=0.3),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 2, padding="same", groups=2),
        unit(threshold=0.3),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    sliding = psu.SpikingSequential(nn.Linear(5, 8), psu.SlidingPSN(3), nn.Linear(8, 6), psu.SlidingPSN(2, fire_on=">"))
    nn.init.constant_(sliding[3].integrate.step_bias, -0.1)
    lifs = psu.SpikingSequential(nn.Linear(5, 8), psu.LIF(3.0, 0.3), nn.Linear(8, 4), psu.PLIF(2.0, 0.2, reset="hard"))
    soft = psu.SpikingSequential(nn.Linear(5, 8), psu.LIF(3.0, 0.3, reset="soft"), nn.Linear(8, 4))
    return {
        "captured, dense": (dense, (6,)),
        "captured, image": (image, (2, 6, 4)),
        "captured, sliding": (sliding, (5,)),
        "captured, lif": (lifs, (5,)),
        "captured, lif soft": (soft, (5,)),
    }


MODULES = {name: (model.eval(), features) for name, (model, features) in _captured().items()}


class Machines(Mapping):
    """By name; those of modules are captured when they are first asked for, not by everyone who collects tests."""

    def __init__(self, made, modules):
        self._made, self._modules = dict(made), modules
        self._names = (*made, *modules)

    def __getitem__(self, name):
        if name not in self._made and name in self._modules:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch copies the input where 'same' is uneven, and says so
                self._made[name] = psu.to_state_machine(*self._modules[name])
        return self._made[name]

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)


def _all(*groups):
    return functools.reduce(lambda a, b: a | b, groups)


def _between_linears(layers):
    return {name: _between(layer) for name, layer in layers.items()}


BY_HAND = _all(
    *map(_between_linears, (FAMILY, INTEGRATING, SLIDING, SOFT, HARD, IF_HARD)),
    *(FLAT_LAYERS, DELAYS, ONE_TAP, IMAGES, HARD_IMAGES, LINES, SKIPS, BRANCHES, STATIC, NAMES, ODD),
)
MACHINES = Machines(BY_HAND, MODULES)


FLAT_AND_LEAKY = (
    *FAMILY,
    *("linear", "linear without bias", "channel affine", "affine in front of linear", "linear in front of affine"),
    *("filter: identity", "filter: leak", "filter: leak at the end", "filter: exponentials"),
    *("filter: biased exponentials", "readout mean", "readout sum", "readout last", "readout of spikes"),
    *("two neuron layers", "one neuron", "one weight", "flatten of one axis", "spikes of the input"),
    *("sliding window of 1", "linear over an image", "flatten between neurons", "static input", "strange names"),
    *("lif soft, divided, 1.0, >=", "lif soft, undivided, 1.0, >", *SKIPS, "captured, dense"),
)
"""What sinabs reads: neurons of one axis, made of leaks; a soft LIF of tau 1 remembers nothing."""

ON_TWO_PATHS = ("filter: strict leak", "strict filter on images", "terms that are there twice", *BRANCHES)
"""Sums of two paths, for which norse runs a node too early."""

ONE_DECAY = (
    *("psu, 1 level(s)", "psu, 3 level(s)", "psu, 7 level(s)", "psu fires on more", "psu, threshold 0", "identity"),
    *("psu, negative threshold", "raw current, shared", "leak without reset", "linear", "residual", "readout mean"),
)
"""What rockpool reads: one decay per layer."""

PORTABLE = [name for name in MACHINES if name not in {*IF_HARD, *LINES, *ON_TWO_PATHS}]
OF_THEIR_OWN = {
    "norse": ("psu, 7 level(s)", "psu fires on more", "sliding window of 3", *HARD, "conv2d", "mean, padded"),
    "snntorch": ("psu fires on more", "two windows", *HARD, *LINES, *ON_TWO_PATHS, "mean", "mean of spikes"),
    "spikingjelly": (
        "psu fires on more",
        "two windows",
        *HARD,
        *IF_HARD,
        *LINES,
        *ON_TWO_PATHS,
        "mean",
        "mean, padded",
    ),
}
"""Where a dialect of one simulator is not the portable one."""

READERS = [
    *((name, "canonical", "canonical") for name in MACHINES),
    *((name, "portable", engine) for name in PORTABLE for engine in ("norse", "snntorch", "spikingjelly")),
    *((name, engine, engine) for engine, names in OF_THEIR_OWN.items() for name in names),
    *((name, "sinabs", "sinabs") for name in FLAT_AND_LEAKY),
    *((name, "rockpool", "rockpool") for name in ONE_DECAY),
]
"""Name, dialect of the file, engine that must read it."""


def inputs(machine, T=10, B=3):
    """Random input on which no decision of a neuron or of a staircase is close: float32 decides as float64."""
    for seed in range(50):
        random = np.random.default_rng(seed)
        x = random.normal(0.3, 1.5, (1 if machine.static_input else T, B, *machine.input_shape)).astype(np.float32)
        x = np.repeat(x, T, axis=0) if machine.static_input else x
        if _closest(machine, machine.trace(x.astype(np.float64))) > CLOSE:
            return x
    raise AssertionError("every input is close to some threshold")


CLOSE = 2e-5
"""Rounding moves the numbers below by less than a tenth of it."""


def _closest(machine, trace):
    close = [np.abs(margin).min() for margin in trace.margin.values()]
    for node in machine.nodes:
        stairs = getattr(node.layer, "estimator", None)
        if isinstance(stairs, o.Staircase) and node.layer.reset is not None:
            close += [np.abs(trace.estimate[node.name] - level).min() for level in stairs.thresholds]
    return min(close, default=1.0)
