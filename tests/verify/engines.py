"""Engines in float32 that are as bad as an engine may be: any order of a sum, fused or not, rounding whichever way.

Everything is computed in float64 and rounded after every operation, so that the way of rounding can be chosen. A
product of two float32 numbers is exact there, and so is what a fused multiply-add adds to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from psu_deploy.machine import ops
from psu_deploy.machine import ops as o
from tests.oracles import estimated, lined_up, output_of
from tests.verify.engine_functions import COMPUTED, U, library

__all__ = ["TO_NEAREST", "Engine", "U", "cut_off", "down", "nearest", "up"]


def nearest(x):
    return np.float64(np.float32(x))


def _directed(wrong, towards):
    def rounded(x):
        near = np.float32(x)
        return np.float64(np.where(wrong(near, x), np.nextafter(near, np.float32(towards)), near))

    return rounded


down = _directed(lambda near, x: near > x, -np.inf)
up = _directed(lambda near, x: near < x, np.inf)


def cut_off(x):
    """Towards zero: hardware that drops the bits it has no room for."""
    return np.where(np.asarray(x) < 0, up(x), down(x))


ORDERS = {
    "first to last": lambda n: np.arange(n),
    "last to first": lambda n: np.arange(n)[::-1],
    "shuffled": lambda n: np.random.default_rng(n).permutation(n),
}


@dataclass(frozen=True)
class Engine:
    """How an engine computes.

    Args:
        rounded: float64 -> the float32 that is taken for it, as float64.
        order: of the terms of a sum, a name in ORDERS.
        lanes: partial sums that are added up at the end; 0 = pairwise.
        fused: whether a product is added before it is rounded.
        sigmoid_off: error of its sigmoid beside rounding, in units of U.
        bias_last: whether a bias is added to the sum, rather than the sum to a bias.
    """

    rounded: Callable = nearest
    order: str = "first to last"
    lanes: int = 1
    fused: bool = False
    sigmoid_off: float = 0.0
    bias_last: bool = True

    def dot(self, weight, x, bias=None):
        """sum over the last axis of weight * x, and a bias."""
        order = ORDERS[self.order](x.shape[-1])
        weight, x = self.rounded(weight)[..., order], x[..., order]
        offset = None if bias is None else self.rounded(bias)
        first = offset if offset is not None and not self.bias_last else 0.0
        total = self._pairwise(weight, x) if not self.lanes else self._in_lanes(weight, x, first)
        late = offset is not None and (self.bias_last or not self.lanes)
        return self.rounded(total + offset) if late else total

    def _in_lanes(self, weight, x, first):
        shape = np.broadcast_shapes(weight.shape, x.shape)
        lanes = [np.broadcast_to(first if not lane else 0.0, shape[:-1]) for lane in range(self.lanes)]
        for i in range(shape[-1]):
            product = weight[..., i] * x[..., i]
            lane = i % self.lanes
            lanes[lane] = self.rounded(lanes[lane] + (product if self.fused else self.rounded(product)))
        total = lanes[0]
        for lane in lanes[1:]:
            total = self.rounded(total + lane)
        return total

    def _pairwise(self, weight, x):
        terms = self.rounded(weight * x)
        while terms.shape[-1] > 1:
            if terms.shape[-1] % 2:
                terms = np.concatenate([terms, np.zeros_like(terms[..., :1])], -1)
            terms = self.rounded(terms[..., ::2] + terms[..., 1::2])
        return terms[..., 0]

    def sigmoid(self, x):
        return self.rounded(1.0 / (1.0 + np.exp(-np.clip(x, -500.0, 500.0))) + self.sigmoid_off * U)

    def layer(self, layer, x):
        """A layer without spikes along a sequence, (T, B, *features) -> (T, B, *features)."""
        match layer:
            case ops.Linear():
                return self.dot(layer.weight, x[..., None, :], layer.bias)
            case ops.Conv1d() | ops.Conv2d() | ops.Conv3d():
                return self._conv(layer, x)
            case ops.ConvTranspose1d() | ops.ConvTranspose2d():
                return self._conv_transpose(layer, x)
            case ops.AvgPool() | ops.SumPool():
                return self._pool(layer, x)
            case ops.LPPool():
                return self._lp_pool(layer, x)
            case ops.MaxPool():
                return _windows(x, layer, -np.inf).max(-1)
            case ops.ChannelAffine():
                channels = (-1, *[1] * (x.ndim - 3))
                scale, shift = (self.rounded(v).reshape(channels) for v in (layer.scale, layer.shift))
                return self._add_product(shift, scale, x)
            case ops.Activation(kind="relu"):
                return np.maximum(x, 0.0)
            case ops.Activation(kind="sigmoid"):
                return self.sigmoid(x)
            case ops.TimeConv():
                return self._time_conv(layer, x)
            case ops.Filter(operator=operator):
                return self.operator(operator, x)
            case ops.Delay(steps=steps):
                return np.concatenate([np.zeros_like(x[:steps]), x])[: len(x)]
            case ops.Readout():
                return self._readout(layer.kind, x)
            case ops.MeanOfLast(steps=steps):
                return np.stack([self._mean(x[max(0, t + 1 - steps) : t + 1], (0,)) for t in range(len(x))])
            case ops.Flatten() | ops.Reshape() | ops.Permute() | ops.Take() | ops.Expand():
                return output_of(layer, x)
            case ops.TopK() | ops.ArgMax() | ops.ArgTopK():
                return output_of(layer, x)
            case ops.ConstantPad():
                return np.pad(x, ((0, 0), (0, 0), *layer.padding), constant_values=self.rounded(layer.value))
            case ops.Affine():
                one = output_of(replace(layer, shift=0 * layer.shift, scale=0 * layer.scale + 1), x)
                return self._add_product(self.rounded(layer.shift), self.rounded(layer.scale), one)
            case ops.Project():
                y = self.dot(layer.matrix, np.moveaxis(x, 2 + layer.axis, -1)[..., None, :])
                return np.moveaxis(y, -1, 2 + layer.axis)
            case ops.Reduce():
                return self._reduce(layer, x)
            case ops.Hold():
                return np.broadcast_to(x[:1], x.shape)
            case _ if type(layer) in COMPUTED:
                return COMPUTED[type(layer)](self, layer, x)
        raise TypeError(f"{layer}: how it is evaluated in any order is a case of its own here")

    def elementwise(self, layer, terms):
        """A layer of several inputs; those that combine entries do so two by two."""
        match layer:
            case ops.Concat():
                return output_of(layer, *terms)
            case ops.MatMul():
                first, second = (lined_up(term, max(t.ndim for t in terms) - 2) for term in terms)
                return self._products(first[..., :, None, :], np.swapaxes(second, -1, -2)[..., None, :, :])
            case ops.HandOver():
                return self._hand_over(layer, *terms)
        result, *others = terms
        for other in others:
            result = self.rounded(output_of(layer, result, other))
        return result

    def _hand_over(self, layer, x, U):
        r, theta, potentials = self.rounded, self.rounded(layer.theta), [x[0]]
        decay = self.rounded(layer.decay) if self.bias_last else self.rounded(2 * layer.decay)
        for arriving, p in zip(x[1:], U, strict=False):
            turned = library(self, np.cos, r(theta * potentials[-1]))
            handed = library(self, np.sin, r(r(theta * p) * turned))
            handed = r(2 * handed) if self.bias_last else handed
            potentials.append(self._add_product(arriving, decay, handed))
        return np.stack(potentials)

    def _products(self, first, second):
        """Sum over the last axis of products of what is float32 already."""
        return self.dot(*np.broadcast_arrays(first, second))

    def _mean(self, x, axes):
        total, terms = self._sum(x, axes)
        return self.rounded(total / terms)

    def _sum(self, x, axes):
        """Over some axes, and how many numbers that were."""
        rest = np.moveaxis(x, axes, range(-len(axes), 0))
        rest = rest.reshape(*rest.shape[: x.ndim - len(axes)], -1)
        return self.dot(np.ones(rest.shape[-1]), rest), rest.shape[-1]

    def _reduce(self, layer, x):
        if layer.kind in ("max", "min"):
            return output_of(layer, x)
        axes = tuple(2 + axis for axis in layer.axes)
        total = self._mean(x, axes) if layer.kind == "mean" else self._sum(x, axes)[0]
        return np.expand_dims(total, axes) if layer.keepdims else total

    def _add_product(self, total, a, b):
        return self.rounded(total + (a * b if self.fused else self.rounded(a * b)))

    def _conv(self, layer, x):
        groups, kernel = layer.groups, layer.weight.shape[2:]
        window = _windows(x, layer, 0.0, kernel, layer.dilation)  # (T, B, C, *size, k)
        T, B, C, *size, k = window.shape
        window = np.moveaxis(window.reshape(T, B, groups, C // groups, *size, k), 3, -2).reshape(
            T, B, groups, 1, *size, -1
        )
        ones = (1,) * len(size)
        weight = layer.weight.reshape(groups, -1, *ones, C // groups * k)
        bias = None if layer.bias is None else layer.bias.reshape(groups, -1, *ones)
        return self.dot(weight, window, bias).reshape(T, B, -1, *size)

    def _conv_transpose(self, layer, x):
        """As the convolution it is: zeros between the inputs, the kernel turned round, its channels swapped."""
        axes = range(len(layer.stride))
        size = [(n - 1) * s + 1 for n, s in zip(x.shape[3:], layer.stride, strict=True)]
        spread = np.zeros((*x.shape[:3], *size))
        spread[:, :, :, *(slice(None, None, s) for s in layer.stride)] = x
        spans = [d * (k - 1) for k, d in zip(layer.weight.shape[2:], layer.dilation, strict=True)]
        wide = [(0, 0)] * 3 + [(span, span + extra) for span, extra in zip(spans, layer.output_padding, strict=True)]
        cut = [slice(before, -after or None) for before, after in layer.padding]
        weight = layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:])
        weight = np.flip(weight.swapaxes(1, 2), [3 + axis for axis in axes])
        weight = weight.reshape(-1, *weight.shape[2:])
        ones, none = (1,) * len(axes), ((0, 0),) * len(axes)
        kind = ops.Conv1d if len(axes) == 1 else ops.Conv2d
        y = self._conv(kind(weight, layer.bias, ones, none, layer.dilation, layer.groups), np.pad(spread, wide))
        return y[:, :, :, *cut]

    def _pool(self, layer, x):
        window = _windows(x, layer, 0.0)
        total = self.dot(np.ones(window.shape[-1]), window)
        if isinstance(layer, ops.SumPool):
            return total
        count = window.shape[-1] if layer.count_padding else _windows(np.ones_like(x), layer, 0.0).sum(-1)
        return self.rounded(total / count)

    def _lp_pool(self, layer, x):
        """A sum of powers, or a mean of them times their number."""
        power = COMPUTED[ops.Power]
        window = power(self, ops.Power(layer.norm), _windows(x, layer, 0.0))
        terms, total = window.shape[-1], self.dot(np.ones(window.shape[-1]), window)
        total = total if self.bias_last else self.rounded(self.rounded(total / terms) * terms)
        return power(self, ops.Power(1 / layer.norm), total)

    def _time_conv(self, layer, x):
        k = layer.order
        late = np.concatenate([np.zeros((k - 1, *x.shape[1:])), x])
        window = np.lib.stride_tricks.sliding_window_view(late, k, 0)  # (T, B, C, k)
        T, B, C, _ = window.shape
        window = window.reshape(T, B, layer.groups, 1, -1)
        weight = layer.weight.reshape(layer.groups, -1, C // layer.groups * k)
        bias = None if layer.bias is None else layer.bias.reshape(layer.groups, -1)
        return self.dot(weight, window, bias).reshape(T, B, -1)

    def _readout(self, kind, x):
        if kind in ("last", "max", "min"):
            return output_of(ops.Readout(kind), x)
        total, rows = np.zeros_like(x[0]), []
        for t, x_t in enumerate(x):
            total = self.rounded(total + x_t)
            rows.append(self.rounded(total / (t + 1)) if kind == "mean" else total)
        return np.stack(rows)

    def operator(self, operator, x):
        """A causal operator along a sequence."""
        match operator:
            case o.Identity():
                return x
            case o.StrictLeak(gain, decay):
                return self._strict_leak(self.rounded(gain), self.rounded(decay), x)
            case o.Leak(gain, decay):
                return self._leak(self.rounded(gain), self.rounded(decay), x)
            case o.Exponentials(gains, decays, bias):
                terms = [self._leak(*self.rounded([g, d]), x) for g, d in zip(gains, decays, strict=True)]
                return self.dot(np.ones(len(gains)), np.stack(terms, -1), bias or None)
            case o.PartialSums(matrix, bias):
                return self._rows([(matrix[t, : t + 1], x[: t + 1], bias[t]) for t in range(len(x))])
            case o.Window(columns, bias, time_invariant):
                return self._rows(list(_window_rows(columns, bias, time_invariant, x)))
        raise TypeError(f"{operator}: how it is evaluated in any order is a case of its own here")

    def _rows(self, rows):
        return np.stack([self.dot(row, np.moveaxis(x, 0, -1), bias or None) for row, x, bias in rows])

    def _leak(self, gain, decay, x):
        y, rows = np.zeros_like(x[0]), []
        for x_t in x:
            y = self._add_product(self.rounded(gain * x_t), decay, y)
            rows.append(y)
        return np.stack(rows)

    def _strict_leak(self, gain, decay, x):
        y, rows = np.zeros_like(x[0]), []
        for x_t in x:
            rows.append(y)
            y = self.rounded(decay * self._add_product(y, gain, x_t))
        return np.stack(rows)

    def neuron(self, neuron, x, noise=None):
        """Margin and spikes of every step."""
        match neuron:
            case ops.LIFNeuron():
                return self._lif(neuron, x)
            case ops.BernoulliNeuron():
                margin = self.rounded(self.sigmoid(self.operator(neuron.integrate, x)) - noise)
                return margin, margin > 0
        potential = self.operator(neuron.integrate, x)
        reset = np.zeros_like(potential)
        if neuron.reset is not None:
            seen = potential if neuron.estimate is None else self.operator(neuron.estimate, x)
            reset = self.operator(neuron.reset, self._estimate(neuron.estimator, seen))
        threshold = self.rounded(neuron.threshold)
        if self.bias_last:
            margin = self.rounded(self.rounded(potential - reset) - threshold)
        else:
            margin = self.rounded(potential - self.rounded(reset + threshold))
        return margin, margin >= 0 if neuron.fire_on == ">=" else margin > 0

    def _estimate(self, estimator, seen):
        match estimator:
            case o.Sigmoid():
                return self.sigmoid(seen)
            case o.RawCurrent():
                return seen
            case o.Staircase(thresholds, height, offset):
                count = (seen[..., None] >= self.rounded(thresholds)).sum(-1)
                return self._add_product(self.rounded(offset), self.rounded(height), np.float64(count))
            case o.SigmoidTable():
                return estimated(estimator, seen)
        raise TypeError(f"{estimator}: how it is evaluated in any order is a case of its own here")

    def _lif(self, neuron, x):
        V, margins, spikes = np.zeros_like(x[0]), [], []
        threshold = self.rounded(neuron.threshold)
        for current in x:
            H = self._charged(neuron, V, current)
            margin = self.rounded(H - threshold)
            spike = margin >= 0 if neuron.fire_on == ">=" else margin > 0
            V = np.where(spike, 0.0 if neuron.reset == "hard" else margin, H)
            margins.append(margin)
            spikes.append(spike)
        return np.stack(margins), np.stack(spikes)

    def _charged(self, neuron, V, current):
        """H: three operations in the order of the equation, or a leak of V and a share of the current."""
        if neuron.tau is None:
            return self.rounded(V + current)
        share = self.rounded(1.0 / neuron.tau)
        if self.fused:  # 1 - 1/tau is known beforehand
            drive = self.rounded(share * current) if neuron.decay_input else current
            return self.rounded(self.rounded(self.rounded(1.0 - share) * V) + drive)
        if neuron.decay_input:
            return self.rounded(V + self.rounded(self.rounded(current - V) / self.rounded(neuron.tau)))
        return self.rounded(self.rounded(V - self.rounded(V / self.rounded(neuron.tau))) + current)


TO_NEAREST = [
    Engine(),
    Engine(order="last to first", bias_last=False),
    Engine(order="shuffled", lanes=4, fused=True),
    Engine(fused=True, sigmoid_off=4.0),
    Engine(lanes=0, sigmoid_off=-4.0),
]
"""What an engine does that keeps to IEEE 754."""


def _window_rows(columns, bias, time_invariant, x):
    """Row t looks at the inputs of steps t-k+1 .. t."""
    for t in range(len(x)):
        steps = range(max(0, t - columns.shape[1] + 1), t + 1)
        row = np.array([columns[0 if time_invariant else s, t - s] for s in steps])
        yield row, x[steps.start : t + 1], bias[0 if time_invariant else t]


def _windows(x, layer, padded, kernel=None, dilation=None):
    """(T, B, C, *size) -> (T, B, C, *new size, entries of a window)."""
    kernel = layer.kernel if kernel is None else kernel
    dilation = dilation or (1,) * len(kernel)
    x = np.pad(x, ((0, 0),) * 3 + tuple(layer.padding), constant_values=padded)
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    window = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(3, x.ndim)))
    moved = tuple(slice(None, None, s) for s in layer.stride) + tuple(slice(None, None, d) for d in dilation)
    window = window[(slice(None),) * 3 + moved]
    return window.reshape(*window.shape[: -len(kernel)], -1)
