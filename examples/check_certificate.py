"""Checks a portable certificate without psu_deploy and torch: from the .psm file and the inputs, with numpy alone.

    python check_certificate.py model.psm inputs.npy certificate.json

Every margin and every bound is derived again, by the lemmas of docs/proof.md (L1 .. L9); then every field of the
certificate is held against them: the verdict, all counts, the tightest decisions and the knife edges with their
numbers. A field that is missing or not known is wrong. A layer that it does not know it names, and refuses. Exit code:
0 = the certificate is right, 1 = it is not, 2 = it cannot be checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

U = 2.0**-24  # unit roundoff of binary32
TINY = 2.0**-99  # more than an operation loses to underflow, flushed to zero or not
SLACK = 1 + 2.0**-20  # for float64, in which all of this is computed
SIGMOID = 8 * U  # how far off a sigmoid may be
STEEPEST = 0.0963  # the largest |sigmoid''| is 1 / (6 sqrt(3))
LARGEST = 2.0**100


class UnknownError(Exception):
    """Something that this script cannot check."""


class Value(NamedTuple):
    """An exact number, what no computed one is larger than, and how far off a computed one may be."""

    exact: np.ndarray
    size: np.ndarray
    error: np.ndarray


def gamma(k):
    """What k roundings make of a factor: 1 + t, where |t| is this at most (L1)."""
    return k * U / (1 - k * U)


def half_ulp(size):
    """What rounding loses at most where the result is of that size (L2)."""
    mantissa, exponent = np.frexp(size)
    return np.ldexp(np.where(mantissa > 0, U / 2, 0.0), exponent)


def off(size, error, own, roundings):
    """Sizes and errors once `own` is added, and what underflow may do (L3)."""
    own = np.where((size > 0) & (own >= 0), own + roundings * TINY, own)
    return size + own, np.where(size < LARGEST, error + own, np.inf)


def rounded(size, error, roundings):
    """As many roundings of numbers of that size."""
    return off(size, error, gamma(roundings) * size, roundings)


def clipped(exact, error):
    """No number is larger than the exact one and its error."""
    error = np.where(np.isnan(error), np.inf, error)
    return Value(exact, np.abs(exact) + error, error)


def summed(exact, size, error, terms, offset, binary, divisor=1):
    """A sum in any order, or a mean, of sums that are so many times as large (L4)."""
    size = size if offset is None else size + np.abs(offset)
    constants = gamma(1 if binary else 2)
    added = np.maximum(np.asarray(terms) - (1 if offset is None else 0), 0).astype(float)
    partial = np.minimum(size, (size + np.abs(exact) + error) / 2)
    largest = partial + ((1 + constants) * (1 + gamma(added)) - 1) * size
    each = half_ulp(SLACK * largest) if divisor == 1 else U * SLACK * largest
    size, error = off(size, error, constants * size + added * each, terms + 2)
    return size, np.where(size * divisor < LARGEST, error, np.inf)


# -- layers: (fields, inputs, whether all inputs are 0 or 1) -> Value


def weighted(layer, weight, bias):
    """What multiplies with a weight, and counts the inputs that are not zero."""
    if layer["type"] == "Linear":
        count = lambda live: live.sum(-1, keepdims=True)  # noqa: E731
        return lambda w, x: x @ w.T, count, bias
    axes, groups = weight.ndim - 2, layer["groups"]
    window = lambda x: windows(x, weight.shape[2:], layer["stride"], layer["padding"], layer["dilation"], 0.0)  # noqa: E731

    def convolved(w, x):
        x = window(x)  # (B, C, *places, *kernel)
        x = x.reshape(len(x), groups, -1, *x.shape[2:])
        x = np.moveaxis(x, 2, 1 + 1 + axes)  # (B, G, *places, C/G, *kernel)
        x = x.reshape(*x.shape[: 2 + axes], -1)
        w = w.reshape(groups, w.shape[0] // groups, -1)
        y = np.stack([x[:, g] @ w[g].T for g in range(groups)], 1)  # (B, G, *places, C_out/G)
        y = np.moveaxis(y, -1, 2)
        return y.reshape(len(y), -1, *y.shape[3:])

    def count(live):
        each = window(live.astype(float)).sum(tuple(range(-axes, 0)))
        met = each.reshape(len(each), groups, -1, *each.shape[2:]).sum(2)
        return met.repeat(weight.shape[0] // groups, 1)

    return convolved, count, None if bias is None else bias.reshape(-1, *[1] * axes)


def multiply(layer, weight, bias, x, binary):
    """The exact result of a Linear or a convolution, and its size and error."""
    product, count, bias = weighted(layer, weight, bias)
    exact = product(weight, x.exact) + (0.0 if bias is None else bias)
    size, error = product(np.abs(weight), x.size), product(np.abs(weight), x.error)
    return exact, *summed(exact, size, error, count(x.size != 0), bias, binary)


def windows(x, kernel, stride, padding, dilation, fill):
    """(B, C, *axes) -> (B, C, *places, *kernel)."""
    axes = tuple(range(2, x.ndim))
    x = np.pad(x, [(0, 0), (0, 0), *map(tuple, padding)], constant_values=fill)
    seen = sliding_window_view(x, [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)], axes)
    return seen[:, :, *[slice(None, None, s) for s in stride], *[slice(None, None, d) for d in dilation]]


def pool(layer, x, binary):
    """Mean, sum or maximum over a sliding window; numbers of spikes are exact, and so is half of one."""
    kernel, axes = layer["kernel"], tuple(range(-len(layer["kernel"]), 0))
    fill = -np.inf if layer["type"] == "MaxPool" else 0.0
    seen = lambda v: windows(v, kernel, layer["stride"], layer["padding"], [1] * len(kernel), fill)  # noqa: E731
    if layer["type"] == "MaxPool":
        return clipped(seen(x.exact).max(axes), seen(x.error).max(axes))
    size, counted = math.prod(kernel), layer.get("count_padding", True)
    total = lambda v: seen(v).sum(axes)  # noqa: E731
    divisor = 1 if layer["type"] == "SumPool" else size if counted else total(np.ones_like(x.exact))
    exact, magnitude, error = (total(v) / divisor for v in x)
    if not (binary and counted and size & (size - 1) == 0):
        terms, mean = size + (0 if counted else 2), layer["type"] == "AvgPool"
        magnitude, error = summed(exact, magnitude, error, terms, None, binary, size if mean else 1)
    return clipped(exact, error)


def affine(layer, x, binary):
    """A scale and a shift per channel."""
    scale, shift = (layer[name].reshape(-1, *[1] * (x.exact.ndim - 2)) for name in ("scale", "shift"))
    exact, size, error = x.exact * scale + shift, x.size * np.abs(scale), x.error * np.abs(scale)
    return exact, *summed(exact, size, error, 1, shift, binary)


# -- causal operators: each keeps (exact, size, error) of its state under a key, and gives the three of its result


def scalar(number):
    """The size of a leak or gain: one that is subnormal may be lost, a huge one make up for what was (L3)."""
    return 2.0**-102 if 0 < abs(number) < 2.0**-126 else abs(number) if abs(number) <= 2.0**26 else LARGEST**2


def operate(op, key, x, state, t):
    """One step of a causal operator (L5)."""
    kind, three = op["type"], (lambda f: tuple(f(v, i) for i, v in enumerate(x)))
    part = lambda number, i: number if i == 0 else np.abs(number)  # noqa: E731  sizes and errors go with |weights|
    if kind == "Identity":
        return (x.exact, *rounded(x.size, x.error, 3))
    if kind in ("Leak", "StrictLeak"):
        old = state.get(key, three(lambda v, _: np.zeros_like(v)))
        part = lambda number, i: number if i == 0 else scalar(number)  # noqa: E731
        gain, decay = op["gain"], op["decay"]
        if kind == "Leak":
            new = three(lambda v, i: old[i] * part(decay, i) + part(gain, i) * v)
        else:
            new = three(lambda v, i: (old[i] + part(gain, i) * v) * part(decay, i))
        state[key] = kept(new)
        out = new if kind == "Leak" else old
        return (out[0], *rounded(out[1], out[2], 3))
    if kind == "Exponentials":
        column = (1, -1, *[1] * (x.exact.ndim - 1))
        gains, decays = op["gains"].reshape(column), op["decays"].reshape(column)
        old = state.get(key, three(lambda v, _: np.zeros((len(v), len(op["gains"]), *v.shape[1:]))))
        new = three(lambda v, i: part(decays, i) * old[i] + part(gains, i) * v[:, None])
        state[key] = kept(new)
        exact, size, error = (part_.sum(1) for part_ in new)
        return (exact + op["bias"], *rounded(size + abs(op["bias"]), error, len(op["gains"]) + 3))
    if kind in ("PartialSums", "Window"):  # L5: sums of products along time, whose roundings are counted at the end
        sliding = kind == "Window" and op["time_invariant"]
        if kind == "PartialSums":
            column, bias, terms = op["matrix"][t:, t], op["bias"][t], t + 1
        else:
            row = 0 if sliding else t
            column, bias, terms = op["columns"][row], op["bias"][row], op["columns"].shape[1]
        column = column.reshape(1, -1, *[1] * (x.exact.ndim - 1))
        sums = list(three(lambda v, i: part(column, i) * v[:, None]))
        if key in state:
            reach = min(sums[0].shape[1], state[key][0].shape[1])
            for i in range(3):
                sums[i][:, :reach] += state[key][i][:, :reach]
        state[key] = tuple(v[:, 1:] for v in sums)
        return (sums[0][:, 0] + bias, *rounded(sums[1][:, 0] + abs(bias), sums[2][:, 0], terms + 2))
    raise UnknownError(f"the causal operator {kind}")


def kept(new):
    """A state as it is stored: rounded, and no larger than the exact one and its error."""
    return clipped(new[0], rounded(new[1], new[2], 5)[1])


def estimated(estimator, seen):
    """The estimated spike (L6)."""
    exact, _, error = seen
    if estimator["type"] == "RawCurrent":
        return Value(*seen)
    if estimator["type"] == "Sigmoid":
        s = np.where(
            exact >= 0, 1 / (1 + np.exp(-np.abs(exact))), np.exp(-np.abs(exact)) / (1 + np.exp(-np.abs(exact)))
        )
        slope = np.minimum(s * (1 - s) + STEEPEST * error, 0.25)
        away = np.minimum(np.where(np.isnan(slope * error), np.inf, slope * error), 1.0) + SIGMOID
        return Value(s, 1.0 + away, away)
    if estimator["type"] == "Staircase":
        thresholds, height, offset = estimator["thresholds"], estimator["height"], estimator["offset"]
        slack = 4 * U * np.abs(thresholds) + TINY
        above = np.searchsorted(thresholds - slack, exact + error, "right")
        below = np.searchsorted(thresholds + slack, exact - error, "left")
        most = np.full_like(exact, abs(offset) + abs(height) * len(thresholds))
        value = np.searchsorted(thresholds, exact, "right") * height + offset
        return Value(value, *rounded(most, abs(height) * (above - below), len(thresholds) + 2))
    raise UnknownError(f"the estimator {estimator['type']}")


def compared(size, error, threshold):
    """How far off V - R - threshold may be (L7)."""
    size = size + abs(threshold)
    return off(size, error, gamma(2) * size, 3)[1] * SLACK


def neuron(layer, name, x, state, t):
    """Margin, bound, and what makes the next state of the spikes and of those in doubt."""
    if layer["type"] == "LIFNeuron":
        return lif(layer, name, x, state)
    v, size, error = potential = operate(layer["integrate"], (name, "V"), x, state, t)
    r = 0.0
    if layer["reset"] is not None:
        seen = potential if layer["estimate"] is None else operate(layer["estimate"], (name, "E"), x, state, t)
        r, r_size, r_error = operate(layer["reset"], (name, "R"), estimated(layer["estimator"], seen), state, t)
        size, error = size + r_size, error + r_error
    return v - r - layer["threshold"], compared(size, error, layer["threshold"]), lambda *_: None


def lif(layer, name, x, state):
    """Leaky integrate-and-fire: the spike resets the membrane, so one in doubt leaves it in doubt (L8)."""
    before = state.get((name, "V"), Value(*(np.zeros_like(v) for v in x)))
    share = 0.0 if layer["tau"] is None else 1.0 / layer["tau"]
    drive = [v * (share if layer["decay_input"] else 1.0) for v in x]
    h, size, error = (a * (1 - share) + b for a, b in zip(before, drive, strict=True))
    summed_up = before.size + drive[1] + size + x.size
    size, error = off(size, error, gamma(6) * summed_up, 6)
    threshold = layer["threshold"]

    def fire(spikes, doubt):
        if layer["reset"] == "hard":
            left = np.maximum(1 - spikes, doubt)
            new = h * (1 - spikes), size * left, np.where(doubt, size + error, error) * left
        else:
            taken = abs(threshold) * np.maximum(spikes, doubt)
            new = h - threshold * spikes, *rounded(size + taken, error + abs(threshold) * doubt, 4)
        state[(name, "V")] = kept(new)

    return h - threshold, compared(size, error, threshold), fire


# -- the whole network


class Network:
    """The part of a .psm file that decisions depend on."""

    KNOWN = ("Linear", "Conv1d", "Conv2d", "ChannelAffine", "AvgPool", "SumPool", "MaxPool", "Flatten", "Reshape")
    KNOWN += ("Add", "Activation", "Filter", "SpikingNeuron", "LIFNeuron")
    NEURONS = ("SpikingNeuron", "LIFNeuron", "BernoulliNeuron")
    KEEP_SPIKES = ("Flatten", "Reshape", "MaxPool")

    def __init__(self, path):
        data = Path(path).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        told = header.pop("__metadata__")
        arrays = {key: self._array(entry, data[8 + length :]) for key, entry in header.items()}
        machine = json.loads(told["machine"])
        self.hash = self._hash(machine, arrays)
        if machine["latency"]:
            raise UnknownError("a network that looks ahead")
        all_nodes = [(n["name"], n["inputs"], self._filled(n["layer"], arrays)) for n in machine["nodes"]]
        needed = set()
        for name, inputs, layer in reversed(all_nodes):
            if layer["type"] in self.NEURONS or name in needed:
                needed |= {name, *inputs}
        self.nodes = [node for node in all_nodes if node[0] in needed]
        self.neurons = [name for name, _, layer in self.nodes if layer["type"] in self.NEURONS]
        unknown = {f"layer {name!r}: {layer['type']}" for name, _, layer in self.nodes if not self._knows(layer)}
        if unknown:
            raise UnknownError("; ".join(sorted(unknown)))
        readers = [name for _, inputs, _ in all_nodes for name in inputs] + [machine["output"]]
        producers = {name: (inputs, layer) for name, inputs, layer in self.nodes}
        self.folds, self.binary, self.heard = {}, set(), set()
        for name, inputs, layer in self.nodes:
            if layer["type"] in self.NEURONS or (layer["type"] in self.KEEP_SPIKES and self.binary.issuperset(inputs)):
                self.binary.add(name)
            kinds = ("Linear", "Conv1d", "Conv2d")
            if layer["type"] == "ChannelAffine" and inputs[0] in producers and readers.count(inputs[0]) == 1:
                above, other = producers[inputs[0]]
                if other["type"] in kinds:
                    self.folds[name] = (above[0], other)
        for name, inputs, layer in reversed(self.nodes):
            if layer["type"] in self.NEURONS or name in self.heard:
                self.heard.update(inputs)
            if layer["type"] == "LIFNeuron":
                self.heard.add(name)

    def _knows(self, layer):
        return layer["type"] in self.KNOWN and (layer["type"] != "Activation" or layer["kind"] == "relu")

    @staticmethod
    def _array(entry, data):
        first, last = entry["data_offsets"]
        kind = {"F32": "<f4", "F64": "<f8"}[entry["dtype"]]
        return np.frombuffer(data[first:last], kind).reshape(entry["shape"]).astype(np.float64)

    def _filled(self, value, arrays):
        if isinstance(value, dict):
            if set(value) == {"tensor"}:
                return arrays[value["tensor"]]
            return {name: self._filled(item, arrays) for name, item in value.items()}
        return value

    @staticmethod
    def _hash(machine, arrays):
        digest, waiting = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()), [machine["nodes"]]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict) and set(value) == {"tensor"}:
                array = arrays[value["tensor"]]
                digest.update(str(array.shape).encode() + array.tobytes())
            elif isinstance(value, dict | list):
                waiting += reversed(list(value.values()) if isinstance(value, dict) else value)
        return digest.hexdigest()

    def decisions(self, x, assumed):
        """Layer -> margins and bounds, (T, B, *features), where sample b has made the decisions of assumed[b]."""
        state, rows = {}, defaultdict(list)
        for t, row in enumerate(x):
            held = row.astype(np.float32).astype(np.float64)
            error = np.where(np.abs(row) < 2.0**-126, np.abs(row), np.abs(held - row))
            values = {"x": Value(row, np.abs(row) + error, error)}
            for name, inputs, layer in self.nodes:
                given = [values[one] for one in inputs]
                if layer["type"] in self.NEURONS:
                    margin, bound, fire = neuron(layer, name, given[0], state, t)
                    rows[name].append((margin, bound))
                    spikes = self.fires(name, margin).astype(float)
                    doubt = uncertain(margin, bound).astype(float)
                    for sample, places in enumerate(assumed):
                        for (when, where, place), spike in places.items():
                            if (when, where) == (t, name):
                                spikes[(sample, *place)], doubt[(sample, *place)] = float(spike), 0.0
                    fire(spikes, doubt)
                    values[name] = Value(spikes, np.maximum(spikes, doubt), doubt)
                else:
                    values[name] = self.layer(name, layer, given, values, state, t, self.binary.issuperset(inputs))
        return {name: tuple(np.stack(part) for part in zip(*rows[name], strict=True)) for name in self.neurons}

    def fires(self, name, margin):
        fire_on = next(layer["fire_on"] for one, _, layer in self.nodes if one == name)
        return margin >= 0 if fire_on == ">=" else margin > 0

    def layer(self, name, layer, given, values, state, t, binary):
        x, kind = given[0], layer["type"]
        if kind in ("Linear", "Conv1d", "Conv2d"):
            exact, _, error = multiply(layer, layer["weight"], layer["bias"], x, binary)
            return clipped(exact, error)
        if kind == "ChannelAffine":
            exact, _, error = affine(layer, x, binary)
            if name in self.folds:
                error = np.maximum(error, self.folded(name, layer, values, exact))
            return clipped(exact, error)
        if kind in ("AvgPool", "SumPool", "MaxPool"):
            return pool(layer, x, binary)
        if kind in ("Flatten", "Reshape"):
            shape = layer.get("shape", (-1,))
            return Value(*(v.reshape(len(v), *shape) for v in x))
        if kind == "Activation":
            return clipped(np.maximum(x.exact, 0), x.error)
        if kind == "Filter":
            exact, _, error = operate(layer["operator"], (name, "y"), x, state, t)
            return clipped(exact, error)
        if len({v.exact.shape for v in given}) > 1:
            raise UnknownError(f"layer {name!r}: an Add that broadcasts")
        exact, size, error = (sum(parts) for parts in zip(*given, strict=True))
        return clipped(exact, summed(exact, size, error, len(given), None, binary)[1])

    def folded(self, name, layer, values, exact):
        """A runtime may make one layer of a weight and the scale behind it (L9)."""
        source, producer = self.folds[name]
        weight, bias = producer["weight"], producer["bias"]
        if producer["type"] == "Linear" and exact.ndim != 2:
            return 0.0
        scale = layer["scale"].reshape(-1, *[1] * (weight.ndim - 1))
        bias = layer["scale"] * (0.0 if bias is None else bias) + layer["shift"]
        _, size, error = multiply(producer, weight * scale, bias, values[source], source in self.binary)
        return rounded(size, error, 2)[1]


def numbered(values):
    """What is no number is as bad as can be."""
    return np.where(np.isnan(values), -np.inf, values)


def uncertain(margin, bound):
    """Where a decision may fall either way; where nothing is rounded it may not."""
    return ~((np.abs(margin) > bound) | (bound == 0))


def certified(network, x, cases):
    """Layer -> margins of the exact run and how far they may move; and into how many cases samples were taken apart."""
    found, counts = network.decisions(x, [{}] * x.shape[1]), []
    bounds = {name: bound.copy() for name, (_, bound) in found.items()}
    for sample in range(x.shape[1]):
        count, waiting = 1, [({}, root(network, found, sample, {}))]
        if cases == 1 or waiting[0][1] is None:
            counts.append(1)
            continue
        count, spare = 2, {name: np.full(margin[:, sample].shape, np.inf) for name, (margin, _) in found.items()}
        while waiting:
            before, place = waiting.pop(0)
            sides = [{**before, place: False}, {**before, place: True}]
            run = network.decisions(x[:, [sample, sample]], sides)
            for index, assumed in enumerate(sides):
                further = root(network, run, index, assumed)
                if further is not None and count < cases:
                    count += 1
                    waiting.append((assumed, further))
                    continue
                for name, (margin, bound) in run.items():
                    side = np.where(network.fires(name, found[name][0][:, sample]), margin[:, index], -margin[:, index])
                    spare[name] = np.minimum(spare[name], numbered(side - bound[:, index]))
        for name, left in spare.items():
            bounds[name][:, sample] = np.abs(found[name][0][:, sample]) - left
        counts.append(count)
    return {name: (margin, bounds[name]) for name, (margin, _) in found.items()}, counts


def root(network, found, index, assumed):
    """The first uncertain decision that others depend on: its step, layer and neuron."""
    places = []
    for name in network.neurons:
        doubt = uncertain(*(part[:, index] for part in found[name]))
        for t, layer, neuron_ in assumed:
            if layer == name:
                doubt[(t, *neuron_)] = False
        if name in network.heard and doubt.any():
            t, *neuron_ = np.argwhere(doubt)[0].tolist()
            places.append((t, name, tuple(neuron_)))
    return min(places, key=lambda place: place[0], default=None)


# -- what the certificate says, field by field

NUMBER = (float, type(None))  # None = not finite
DECISION = {"layer": str, "t": int, "sample": int, "neuron": [int], "margin": NUMBER, "bound": NUMBER}
TIGHTEST = (DECISION, type(None))
LAYER = {"name": str, "first_step": int, "decisions": int, "certified": int}
LAYER |= {"tightest": TIGHTEST, "largest_bound": float}
FORM = {
    "format": str,
    "version": int,
    "verdict": str,
    "machine": str,
    "input": {"sha256": str, "shape": [int]},
    "arithmetic": {"precision": str, "unit_roundoff": float},
    "cases": {"most": int, "of_samples": [int]},
    "decisions": int,
    "certified": int,
    "tightest": TIGHTEST,
    "layers": [LAYER],
    "knife_edges": [DECISION],
}
LISTED = 1000  # knife edges that a certificate lists at most


def misshapen(form, value, where="it"):
    """Fields that are missing, unknown or of another kind."""
    if isinstance(form, tuple):
        return min((misshapen(one, value, where) for one in form), key=len)
    if isinstance(form, type):
        return [] if type(value) is form else [f"{where} is {value!r}, which is no {form.__name__}"]
    if type(value) is not type(form):
        return [f"{where} is {value!r}"]
    if isinstance(form, list):
        return [one for i, item in enumerate(value) for one in misshapen(form[0], item, f"{where}[{i}]")]
    odd = [f"{where} has no field {name!r}" for name in form if name not in value]
    odd += [f"{where} has a field {name!r}, which is not known here" for name in value if name not in form]
    return odd + [
        one for name in form if name in value for one in misshapen(form[name], value[name], f"{where}.{name}")
    ]


def once(pairs):
    """Of two values under one name a reader may see either."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a field is there twice")
    return dict(pairs)


def read(path):
    """A certificate, and what of it is none."""
    try:
        told = json.loads(Path(path).read_bytes(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        return None, [f"it is no JSON: {error}"]
    return told, misshapen(FORM, told)


def same(name, derived, said):
    """A sentence where they are not the same."""
    return [] if derived == said else [f"{name} is {derived!r}, it says {said!r}"]


def near(name, derived, said, scale):
    """The same within what float64 loses, far below float32's rounding: `scale` is what it may lose a part of."""
    if said is None or not np.isfinite(derived):
        return [] if said is None and not np.isfinite(derived) else [f"{name} is {derived}, it says {said}"]
    return [] if abs(derived - said) <= scale else [f"{name} is {derived}, it says {said}"]


def sizes(name, margin, bound, said):
    """Margin and bound of one decision."""
    scale = 1e-6 * (bound if np.isfinite(bound) else LARGEST) + 1e-12 * abs(margin)
    wrong = near(f"{name}: the margin", margin, said["margin"], scale)
    return wrong + near(f"{name}: the bound", bound, said["bound"], scale)


def of_layer(name, margin, bound, said):
    """What is wrong with what it says of a layer."""
    sure, title = ~uncertain(margin, bound), f"layer {name!r}"
    wrong = same(f"{title}: the first step", 0, said["first_step"])
    wrong += same(f"{title}: the number of decisions", sure.size, said["decisions"])
    wrong += same(f"{title}: the number of certified ones", int(sure.sum()), said["certified"])
    largest, scale = bound[sure].max(initial=0.0), 1e-12 * np.abs(margin[sure]).max(initial=0.0)
    wrong += near(f"{title}: the largest bound", largest, said["largest_bound"], 1e-6 * largest + scale)
    if said["tightest"] is None or not sure.any():
        return wrong + same(
            f"{title}: whether a decision is the tightest", bool(sure.any()), said["tightest"] is not None
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sure & (bound > 0), np.abs(margin) / bound, np.inf)
    place = (said["tightest"]["t"], said["tightest"]["sample"], *said["tightest"]["neuron"])
    inside = len(place) == ratio.ndim and all(0 <= i < n for i, n in zip(place, ratio.shape, strict=True))
    if said["tightest"]["layer"] != name or not inside or not sure[place] or ratio[place] > ratio.min() * (1 + 1e-6):
        best = np.unravel_index(ratio.argmin(), ratio.shape)
        return [*wrong, f"{title}: the tightest decision is at {tuple(map(int, best))}, it says {said['tightest']}"]
    return wrong + sizes(f"{title}, tightest", margin[place], bound[place], said["tightest"])


def of_knife_edges(found, said):
    """What is wrong with the list of what is not certified."""
    edges = []
    for order, (name, (margin, bound)) in enumerate(found.items()):
        places = np.argwhere(uncertain(margin, bound))[:LISTED].tolist()
        edges += [(t, order, tuple(rest), name) for t, *rest in places]
    edges = sorted(edges)[:LISTED]
    told = [(edge["t"], edge["layer"], (edge["sample"], *edge["neuron"])) for edge in said]
    if told != [(t, name, rest) for t, _, rest, name in edges]:
        return ["its knife edges are others"]
    places = [(name, (t, *rest)) for t, _, rest, name in edges]
    return [
        one
        for (name, place), edge in zip(places, said, strict=True)
        for one in sizes(f"knife edge {place} of layer {name!r}", *(part[place] for part in found[name]), edge)
    ]


def tightness(decision):
    """How many times its bound a margin is."""
    return abs(decision["margin"]) / decision["bound"] if decision["bound"] else math.inf


def verdict(total, held, tightest):
    """The sentence of a certificate."""
    if not total:
        return "NOTHING TO CERTIFY: the network decides nothing on these inputs"
    if held == total:
        name = repr(tightest["layer"])
        name = name if len(name) <= 200 else f"{name[:97]} ... {name[-97:]}"
        where = f"step {tightest['t']}, sample {tightest['sample']}, neuron {tuple(tightest['neuron'])}"
        margin, bound = abs(tightest["margin"]), tightest["bound"]
        return (
            f"CERTIFIED: {held:,} of {total:,} decisions hold in every IEEE-754 binary32 runtime; "
            f"tightest at layer {name}, {where}: margin {margin:.2g}, bound {bound:.2g}"
        )
    digits = 2 if total - held > total // 1000 else 4
    whole, rest = divmod(held * 100 * 10**digits // total, 10**digits)
    share = f"{whole}.{rest:0{digits}d} % CERTIFIED"
    return f"{share}: {total - held:,} of {total:,} decisions may differ between runtimes"


def of_all(found, told):
    """What is wrong with the sums and the sentence over all layers; what they are made of is right."""
    total = sum(margin.size for margin, _ in found.values())
    held = sum(int((~uncertain(*one)).sum()) for one in found.values())
    wrong = same("the number of decisions", total, told["decisions"])
    wrong += same("the number of certified ones", held, told["certified"])
    tightest = [layer["tightest"] for layer in told["layers"] if layer["tightest"] is not None]
    best = min(tightest, key=tightness, default=None)
    wrong += same("the tightest decision", best, told["tightest"])
    return wrong + same("the verdict", verdict(total, held, best), told["verdict"])


def check(psm, inputs, certificate):
    """What is wrong with a certificate, sentence by sentence, and how many decisions there are; none = it is right."""
    told, wrong = read(certificate)
    if wrong:
        return wrong, 0
    network, x = Network(psm), np.ascontiguousarray(np.load(inputs), dtype=np.float64)
    wrong = same("the format", "psu-deploy.portable-certificate", told["format"])
    wrong += same("the version of the format", 1, told["version"])
    arithmetic = {"precision": "IEEE-754 binary32, round to nearest", "unit_roundoff": U}
    wrong += same("the arithmetic", arithmetic, told["arithmetic"])
    wrong += same("the machine", network.hash, told["machine"])
    wrong += same("the input's SHA-256", hashlib.sha256(x.tobytes()).hexdigest(), told["input"]["sha256"])
    wrong += same("the input's shape", list(x.shape), told["input"]["shape"])
    wrong += same("the list of neuron layers", network.neurons, [layer["name"] for layer in told["layers"]])
    if told["cases"]["most"] < 1:
        wrong.append(f"a sample has one case at least, it says {told['cases']['most']} at most")
    if wrong:
        return wrong, 0
    found, counts = certified(network, x, told["cases"]["most"])
    wrong = same("the number of cases of each sample", counts, told["cases"]["of_samples"])
    for (name, (margin, bound)), said in zip(found.items(), told["layers"], strict=True):
        wrong += of_layer(name, margin, bound, said)
    wrong += of_knife_edges(found, told["knife_edges"])
    return wrong or of_all(found, told), sum(margin.size for margin, _ in found.values())


def main():
    """The command line."""
    if len(sys.argv) != 4:
        sys.exit("usage: python check_certificate.py model.psm inputs.npy certificate.json")
    try:
        wrong, decisions = check(*sys.argv[1:])
    except UnknownError as unknown:
        print(f"CANNOT CHECK: {unknown} is not known here")
        sys.exit(2)
    print("\n".join(["WRONG: " + one for one in wrong]) or f"RIGHT: all of {decisions:,} decisions are as it says")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
