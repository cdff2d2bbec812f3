"""Integer networks of every kind, and of numbers as large as they get; what they compute, by Python's integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from psu_deploy.exporters.integers import network as ir
from tests.exporters.integers import hand_made, integers
from tests.exporters.integers.hand_made import Numbers, layer

STATE_MAX = 2**23 - 1
BINARY = ir.InputCode(1.0, 0, 1)
GRADED = ir.InputCode(0.25, -255, 255)


def network(layers, input_shape, code=BINARY, horizon=None):
    return ir.IntegerNetwork(tuple(layers), input_shape, code, horizon, np.ones(1))


def given(net, T, B, seed=0):
    """Input numbers (T, B, *features)."""
    random = np.random.default_rng(seed)
    x = random.integers(net.code.low, net.code.high + 1, (T, B, *net.input_shape))
    return x * (random.random(x.shape) < 0.7)


def run(net, x):
    """What every layer sends, (T, B, *shape): neurons in Python's own integers, one by one."""
    sent = []
    for part in net.layers:
        if part.flatten:
            x = x.reshape(*x.shape[:2], -1)
        silent = replace(part.synapse, bias=np.zeros_like(part.synapse.bias))
        bias = part.synapse.bias.reshape(-1, *[1] * (len(part.shape) - 1))
        a = np.stack([np.clip(hand_made.synapse(silent, row), -STATE_MAX, STATE_MAX) + bias for row in x])
        x = np.zeros((*a.shape[:2], *part.shape), np.int64)
        for (b, *place), numbers in integers.run(part.neuron, a).items():
            x[(slice(None), b, *place)] = numbers
        sent.append(x)
    return sent


def triangle(sums):
    """A T x T matrix as the exporter writes it: nothing is due after the last step."""
    T, k = sums.columns.shape
    return replace(sums, columns=sums.columns * (np.arange(k) < T - np.arange(T)[:, None]))


def quiet():
    """As the exporter makes them: every synapse, every neuron and every part of one, dense and in images."""
    n = Numbers(0)
    row, image = n.channels, (n.channels, 3, 2)
    neurons = {
        "psu": n.psu(),
        "traces": n.psu(n.traces(3), n.traces(2), up=0),
        "sliding": n.psu(n.sums(1, 4)),
        "one column": n.psu(n.sums(1, 1)),
        "matrix": n.psu(n.sums(6, 6), n.sums(6, 6), reset=n.reset(n.sums(6, 6, strict=True))),
        "triangle": n.psu(triangle(n.sums(6, 6)), reset=None),
        "levels": n.psu(estimator=n.levels()),
        "raw": n.psu(estimator=ir.Raw(), reset=n.reset(shift=11)),
        "no reset": n.psu(reset=None),
        "fraction": replace(n.psu(up=3), fraction=n.ints(0, 7, n.channels)),
        "soft": n.lif(),
        "hard": n.lif(hard=True),
        "cuba": ir.Cuba(3000, 40),
    }
    flat = [layer(n.dense(row), neuron, row, name=name) for name, neuron in neurons.items()]
    flat.append(layer(n.dense(row), ir.Relay(2, n.traces(2)), row, name="out"))
    yield "dense", network(flat, (row,), horizon=6)
    convs = [
        layer(n.conv(2, 8, (3, 2), (2, 1), (1, 1)), neurons["psu"], (8, 3, 5), name="stride"),
        layer(n.conv(8, 8, (2, 3), dilation=(1, 2), groups=4), neurons["sliding"], (8, 2, 1), name="groups"),
        layer(n.conv(8, 8, (1, 1), padding=(1, 1), groups=8), neurons["levels"], (8, 4, 3), name="depthwise"),
        layer(n.conv(8, 8, (2, 2)), neurons["matrix"], image, name="matrix"),
        layer(n.conv(8, 8, (1, 1)), neurons["soft"], image, name="soft"),
        layer(n.dense(48, 8), neurons["raw"], 8, flatten=True, name="flat"),
        layer(n.dense(8), ir.Relay(), 8, name="out"),
    ]
    yield "images", network(convs, (2, 5, 4), horizon=6)
    graded = [
        layer(n.conv(2, 8, (2, 2), padding=(1, 0)), ir.Relay(1, n.sums(1, 3)), image, name="filter"),
        layer(n.conv(8, 8, (1, 1)), neurons["psu"], image, name="psu"),
        layer(n.dense(48, 8), ir.Relay(0, None), 8, flatten=True, name="numbers"),
        layer(n.dense(8), neurons["hard"], 8, name="hard"),
    ]
    yield "graded", network(graded, (2, 2, 3), GRADED)


class Loud(Numbers):
    """Numbers as large as a file may have them, most of them at an end of their range."""

    def ints(self, low, high, *shape):
        values = self.random.integers(low, high + 1, shape)
        ends = self.random.choice([low, high], shape)
        return np.where(self.random.random(shape) < 0.5, ends, values)

    def large(self, *shape):
        return self.ints(-STATE_MAX, STATE_MAX, *shape)

    def dense(self, inputs, outputs=None):
        outputs = self.channels if outputs is None else outputs
        return ir.Dense(self.ints(-127, 127, outputs, inputs), self.large(outputs))

    def traces(self, r=1):
        return ir.Traces(self.ints(0, 4096, r), self.ints(-4096, 4096, r), self.large(self.channels))

    def sums(self, rows, k, strict=False):
        columns = self.ints(-4096, 4096, rows, k)
        columns[:, :1] *= not strict
        return ir.Sums(columns, self.large(rows, self.channels))

    def table(self):
        return ir.Table(self.ints(-8192, 8192, self.channels), self.ints(0, 30, self.channels))

    def levels(self, count=4):
        return ir.Levels(np.sort(self.large(count, self.channels), axis=0), self.large(count + 1))

    def reset(self, operator=None, shift=15):
        decay = int(self.ints(0, 4096)) if operator is None else None
        return ir.Reset(self.ints(-4096, 4096, self.channels), self.ints(0, 30, self.channels), decay, operator)

    def thresholds(self):
        return self.large(self.channels)

    def lif(self, hard=False, up=8):
        return ir.LIF(up, int(self.ints(0, 4096)), self.thresholds() // 2, self.large(self.channels), hard)

    def neuron(self, kind):
        operators = [lambda: self.traces(int(self.ints(1, 3))), lambda: self.sums(1, int(self.ints(1, 4)))]
        operators.append(lambda: self.sums(6, 6))
        estimators = [self.table, self.levels, ir.Raw]

        def one(choices):
            return choices[int(self.random.integers(len(choices)))]()

        up = int(self.ints(0, 8))
        if kind == "psu":
            reset = one([self.reset, lambda: self.reset(self.sums(6, 6, strict=True)), lambda: None])
            estimate = one([*operators, lambda: None])
            made = ir.PSU(up, one(operators), estimate, one(estimators), reset, self.thresholds())
        elif kind == "cuba":
            return ir.Cuba(int(self.ints(0, 4096)), int(self.ints(0, 2**17 - 1)))
        else:
            made = self.lif(kind == "hard", up) if kind != "relay" else ir.Relay(up, one(operators))
        return replace(made, fraction=self.ints(0, 2**up - 1, self.channels))


def loud(seed, kinds=("psu", "psu", "soft", "relay", "psu", "hard", "psu", "cuba", "psu", "relay")):
    """A chain that saturates everywhere; sums of products need 64 bits."""
    n = Loud(seed, channels=5)
    layers = [
        layer(n.dense(7 if not index else n.channels), n.neuron(kind), n.channels, name=f"{kind}{index}")
        for index, kind in enumerate(kinds)
    ]
    return network(layers, (7,), GRADED, horizon=6)
