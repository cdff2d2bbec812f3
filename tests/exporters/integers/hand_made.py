"""Networks of numbers drawn at random, and .net files written by hand, spelt as lava-dl's netx spells them."""

from __future__ import annotations

import json

import h5py
import numpy as np

from psu_deploy.exporters.integers import fixed_point as fx
from psu_deploy.exporters.integers import network as ir
from psu_deploy.numerics.sigmoid_table import knots

BINARY = {"unit": 1.0, "low": 0, "high": 1}
GRADED = {"unit": 0.25, "low": -100, "high": 100}


# -- the network and what it computes, by fixed_point: not the code of exporters/lava/process ------------------------


def run(layers, x):
    """Every layer's output, (T, B, *features), of whole numbers x (T, B, *features)."""
    outputs = []
    for layer in layers:
        if layer.flatten:
            x = x.reshape(*x.shape[:2], -1)
        state = fx.initial_state(layer.neuron, x.shape[1], layer.shape)
        x = np.stack([fx.fire(layer.neuron, synapse(layer.synapse, row), state, t) for t, row in enumerate(x)])
        outputs.append(x.astype(np.int64))
    return outputs


def synapse(part, x):
    """`W x + b`, every product written out."""
    if isinstance(part, ir.Dense):
        return x.astype(np.int64) @ part.weight.T + part.bias
    (sy, sx), (py, px), (dy, dx) = part.stride, part.padding, part.dilation
    outputs, inputs, kh, kw = part.weight.shape
    padded = np.pad(x.astype(part.weight.dtype), [(0, 0), (0, 0), (py, py), (px, px)])
    h, w = (
        (padded.shape[2] - dy * (kh - 1) - 1) // sy + 1,
        (padded.shape[3] - dx * (kw - 1) - 1) // sx + 1,
    )
    result = np.zeros((len(x), outputs, h, w), part.weight.dtype)
    for o in range(outputs):
        first = o // (outputs // part.groups) * inputs
        for c, i, j in np.ndindex(inputs, kh, kw):
            window = padded[:, first + c, i * dy : i * dy + sy * h : sy, j * dx : j * dx + sx * w : sx]
            result[:, o] += part.weight[o, c, i, j] * window[:, :h, :w]
    return result + part.bias.reshape(-1, 1, 1)


# -- the file ----------------------------------------------------------------------------------------------------------


def write(path, layers, input_shape, code=BINARY):
    """A .net file."""
    with h5py.File(path, "w") as file:
        entry = _entry(file, 0, "input")
        entry["shape"] = np.array(input_shape, np.int32)
        place = 1
        for layer in layers:
            if layer.flatten:
                _entry(file, place, "flatten")
                place += 1
            _layer(_entry(file, place, "dense" if isinstance(layer.synapse, ir.Dense) else "conv"), layer)
            place += 1
        file["psu_deploy/metadata"] = json.dumps({"code": code})
    return path


def _entry(file, place, kind):
    group = file.create_group(f"layer/{place}")
    _say(group, "type", kind)
    return group


def _say(group, name, text):
    group.create_dataset(name, data=np.array([text.encode()], "S10"))


def _put(group, **numbers):
    for name, number in numbers.items():
        group[name] = np.array(number, np.int32)


def _layer(group, layer):
    part = layer.synapse
    _put(group, shape=layer.shape, bias=part.bias)
    group["weight"] = part.weight.astype(np.int8)
    if isinstance(part, ir.Conv):
        _put(group, stride=part.stride, padding=part.padding, dilation=part.dilation, groups=part.groups)
    _neuron(group.create_group("neuron"), layer.neuron)


def _neuron(group, neuron):
    if isinstance(neuron, ir.PSU):
        _say(group, "type", "PSU")
        _put(group, up=neuron.fraction_bits, threshold=neuron.threshold, fraction=neuron.fraction)
        _operator(group.create_group("integrate"), neuron.integrate)
        if neuron.estimate is not None:
            _operator(group.create_group("estimate"), neuron.estimate)
        _estimator(group.create_group("estimator"), neuron.estimator)
        if neuron.reset is not None:
            _reset(group.create_group("reset"), neuron.reset)
    elif isinstance(neuron, ir.LIF):
        _say(group, "type", "LIF")
        _put(group, up=neuron.fraction_bits, decay=neuron.decay, threshold=neuron.threshold)
        _put(group, subtract=neuron.subtract, hard=int(neuron.hard), fraction=neuron.fraction)
    elif isinstance(neuron, ir.Cuba):
        _say(group, "type", "CUBA")
        _put(group, iDecay=4096, vDecay=4096 - neuron.decay, vThMant=neuron.threshold, refDelay=1, gradedSpike=0)
    else:
        _say(group, "type", "RELAY")
        _put(group, up=neuron.fraction_bits, fraction=neuron.fraction)
        if neuron.operator is not None:
            _operator(group.create_group("operator"), neuron.operator)


def _operator(group, operator):
    if isinstance(operator, ir.Traces):
        _say(group, "kind", "Traces")
        _put(group, decays=operator.decays, gains=operator.gains, bias=operator.bias)
    else:
        _say(group, "kind", "Sums")
        _put(group, columns=operator.columns, bias=operator.bias)


def _estimator(group, estimator):
    _say(group, "kind", type(estimator).__name__)
    if isinstance(estimator, ir.Table):
        _put(group, coefficient=estimator.coefficient, shift=estimator.shift, knots=knots())
    elif isinstance(estimator, ir.Levels):
        _put(group, thresholds=estimator.thresholds, values=estimator.values)


def _reset(group, reset):
    _put(group, coefficient=reset.coefficient, shift=reset.shift)
    if reset.operator is None:
        _put(group, decay=reset.decay)
    else:
        _operator(group.create_group("operator"), reset.operator)


# -- numbers -----------------------------------------------------------------------------------------------------------


class Numbers:
    """Neurons and synapses with numbers drawn at random.

    Args:
        seed: of the numbers.
        channels: C of the neurons it makes.
        loud: size of what arrives at a neuron, which thresholds are measured by.
    """

    def __init__(self, seed, channels=8, loud=200):
        self.random = np.random.default_rng(seed)
        self.channels, self.loud = channels, loud

    def ints(self, low, high, *shape):
        return self.random.integers(low, high + 1, shape)

    def dense(self, inputs, outputs=None):
        outputs = self.channels if outputs is None else outputs
        return ir.Dense(self.ints(-127, 127, outputs, inputs), self.ints(-30, 60, outputs))

    def conv(self, inputs, outputs, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
        weight = self.ints(-127, 127, outputs, inputs // groups, *kernel)
        return ir.Conv(weight, self.ints(-30, 60, outputs), stride, padding, dilation, groups)

    def traces(self, r=1):
        decays = self.ints(1500, 4000, r)
        return ir.Traces(decays, self.ints(800, 3000, r), self.ints(-50, 50, self.channels))

    def sums(self, rows, k, strict=False):
        columns = self.ints(-1500, 4096, rows, k)
        if strict:
            columns[:, 0] = 0
        return ir.Sums(columns, self.ints(-50, 50, rows, self.channels))

    def table(self):
        return ir.Table(self.ints(2000, 4096, self.channels), self.ints(8, 11, self.channels))

    def levels(self, count=4):
        thresholds = np.sort(self.ints(-self.loud, 3 * self.loud, count, self.channels), axis=0)
        return ir.Levels(thresholds, np.sort(self.ints(0, 4096, count + 1)))

    def reset(self, operator=None, shift=15):
        """Of an estimated spike around 2048; one that is a potential takes a shift of 11."""
        coefficient, shift = self.ints(1000, 4096, self.channels), self.ints(shift, shift + 2, self.channels)
        return ir.Reset(coefficient, shift, int(self.ints(1000, 4000)) if operator is None else None, operator)

    def thresholds(self):
        return self.ints(-self.loud // 4, self.loud // 2, self.channels)

    def psu(self, integrate=None, estimate=None, estimator=None, reset="leak", up=1):
        integrate = self.traces() if integrate is None else integrate
        estimator = self.table() if estimator is None else estimator
        reset = self.reset() if reset == "leak" else reset
        return ir.PSU(up, integrate, estimate, estimator, reset, self.thresholds())

    def lif(self, hard=False, up=2):
        subtract = self.ints(100, 2 * self.loud, self.channels)
        return ir.LIF(up, int(self.ints(1000, 4000)), self.thresholds(), subtract, hard)

    def spikes(self, *shape, rate=0.3):
        return (self.random.random(shape) < rate).astype(np.int64)


def layer(synapse_, neuron, shape, flatten=False, name=""):
    """A layer; a shape of one axis may be given as a number."""
    return ir.IntegerLayer(name, synapse_, neuron, (shape,) if isinstance(shape, int) else tuple(shape), flatten)
