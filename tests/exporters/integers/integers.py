"""One neuron in Python's own integers, from the docstrings of `fixed_point` and `network`: no arrays, no overflow."""

from __future__ import annotations

from fractions import Fraction
from math import exp, floor, trunc

from psu_deploy.exporters.integers import network as ir

LIMIT = 8388607
KNOTS = [round(4096 / (1 + exp(8 - i / 4))) for i in range(65)]


def clamp(x):
    """Into 24 bits."""
    return LIMIT if x > LIMIT else -LIMIT if x < -LIMIT else x


def times(x, factor, shift=12):
    """A product without its fraction."""
    return trunc(Fraction(x * factor, 2**shift))


def of(values, channel):
    """A number per channel, or one for all."""
    return int(values[channel if len(values) > 1 else 0])


class Operator:
    """Of one neuron.

    Args:
        data: Traces or Sums.
        channel: of the neuron.
    """

    def __init__(self, data, channel):
        self.data, self.channel = data, channel
        self.traces = [0] * len(data.decays) if isinstance(data, ir.Traces) else []
        self.due = {}

    def __call__(self, x, t):
        if self.traces:
            factors = list(zip(self.data.decays.tolist(), self.data.gains.tolist(), strict=True))
            self.traces = [clamp(times(y, d) + times(x, g)) for y, (d, g) in zip(self.traces, factors, strict=True)]
            return clamp(sum(self.traces) + of(self.data.bias, self.channel))
        row = t if len(self.data.columns) > 1 else 0
        for later, coefficient in enumerate(self.data.columns[row].tolist()):
            self.due[t + later] = clamp(self.due.get(t + later, 0) + times(x, coefficient))
        return clamp(self.due.pop(t) + of(self.data.bias[row], self.channel))


def estimated(estimator, E, channel):
    """S' of E."""
    if isinstance(estimator, ir.Raw):
        return E
    if isinstance(estimator, ir.Levels):
        reached = sum(of(level, channel) <= E for level in estimator.thresholds.tolist())
        return int(estimator.values[reached])
    z = floor(Fraction(E * of(estimator.coefficient, channel), 2 ** of(estimator.shift, channel)))
    place = min(max(z, -8192), 8191) + 8192
    i, f = divmod(place, 256)
    return KNOTS[i] + (KNOTS[i + 1] - KNOTS[i]) * f // 256


class Neuron:
    """One of a layer.

    Args:
        data: of the layer.
        channel: which.
    """

    def __init__(self, data, channel):
        self.data, self.channel, self.V = data, channel, 0
        if isinstance(data, ir.PSU):
            self.integrate = Operator(data.integrate, channel)
            self.estimate = None if data.estimate is None else Operator(data.estimate, channel)
            reset = data.reset
            self.reset = None if reset is None or reset.operator is None else Operator(reset.operator, channel)
            self.R = 0
        if isinstance(data, ir.Relay):
            self.operator = None if data.operator is None else Operator(data.operator, channel)

    def __call__(self, a, t):
        """Synapse output -> spike, or number."""
        n, c = self.data, self.channel
        if isinstance(n, ir.Relay):
            x = clamp(a * 2**n.fraction_bits + of(n.fraction, c))
            return x if self.operator is None else self.operator(x, t)
        if isinstance(n, ir.Cuba):
            self.V = clamp(times(self.V, n.decay) + a * 64)
            fired = n.threshold * 64 + 1 <= self.V
            self.V = 0 if fired else self.V
            return int(fired)
        x = clamp(a * 2**n.fraction_bits + of(n.fraction, c))
        if isinstance(n, ir.LIF):
            H = clamp(times(self.V, n.decay) + x)
            fired = of(n.threshold, c) <= H
            self.V = clamp((0 if n.hard else H - of(n.subtract, c)) if fired else H)
            return int(fired)
        V = self.integrate(x, t)
        if n.reset is None:
            return int(of(n.threshold, c) <= V)
        E = V if self.estimate is None else self.estimate(x, t)
        Q = clamp(times(estimated(n.estimator, E, c), of(n.reset.coefficient, c), of(n.reset.shift, c)))
        if self.reset is not None:
            R = self.reset(Q, t)
        else:
            R, self.R = self.R, times(clamp(self.R + Q), n.reset.decay)
        return int(of(n.threshold, c) <= V - R)


def run(neuron, a):
    """All neurons of a layer: a (T, B, C, *more) as nested numbers -> {(b, c, *more): outputs}."""
    results = {}
    for place in [(b, *f) for b in range(a.shape[1]) for f in _places(a.shape[2:])]:
        one = Neuron(neuron, place[1])
        results[place] = [one(int(row[place]), t) for t, row in enumerate(a)]
    return results


def _places(shape):
    places = [()]
    for n in shape:
        places = [(*p, i) for p in places for i in range(n)]
    return places
