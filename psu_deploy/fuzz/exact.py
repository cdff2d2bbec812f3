"""Is nothing rounded, whatever the order of summation? Then the bound is zero, and a tie is decided by its rule alone.

Every value is a multiple of `2^-q` and at most m in size: `m 2^q <= 2^22` fits into the 24 bits of float32 with two to
spare, and so does every part of a sum, because the sizes of all its terms are added.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ldexp
from typing import Any, NamedTuple

import numpy as np

from psu_deploy.machine import StateMachine, ops
from psu_deploy.machine.schedule import INPUT

_MOST_BITS = 22


class _InexactError(Exception):
    """Something may be rounded."""


class _Size(NamedTuple):
    """Multiples of 2^-bits, at most `most` in size."""

    bits: int
    most: float

    def fits(self) -> _Size:
        if ldexp(self.most, self.bits) > 2.0**_MOST_BITS:
            raise _InexactError
        return self


_SPIKES = _Size(0, 1.0)


def is_exact(machine: StateMachine, x: Any) -> bool:
    """Whether no operation of a run from the initial state can round.

    Args:
        machine: the network.
        x: its input, (T, B, *features).
    """
    try:
        sizes = {INPUT: _size(x).fits()}
        for node in machine.nodes:
            rule = _RULES.get(type(node.layer))
            if rule is None:
                return False
            inputs = [sizes[name] for name in node.inputs]
            sizes[node.name] = rule(node.layer, inputs, len(x) + machine.latency).fits()
    except _InexactError:
        return False
    return True


def _size(*numbers: Any) -> _Size:
    """Of some numbers."""
    every = np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in numbers if part is not None])
    for bits in range(_MOST_BITS + 1):
        if not np.mod(every * 2.0**bits, 1.0).any():
            return _Size(bits, float(np.abs(every).max(initial=0.0)))
    raise _InexactError


def _sum(weight: Any, bias: Any, of: _Size) -> _Size:
    """Of products: rows of weights."""
    rows = np.abs(weight.reshape(len(weight), -1)).sum(1).max(initial=0.0)
    factor, offset = _size(weight), _size(0.0 if bias is None else bias)
    return _Size(max(of.bits + factor.bits, offset.bits), float(rows) * of.most + offset.most)


def _joined(*sizes: _Size) -> _Size:
    return _Size(max(size.bits for size in sizes), sum(size.most for size in sizes))


def _largest(*sizes: _Size) -> _Size:
    return _Size(max(size.bits for size in sizes), max(size.most for size in sizes))


def _leak(operator: Any, of: _Size, steps: int) -> _Size:
    gain, decay = _size(operator.gain), _size(operator.decay)
    powers = sum(abs(operator.decay) ** t for t in range(steps + 1))
    return _Size(of.bits + gain.bits + steps * decay.bits, of.most * gain.most * powers)


def _along(operator: Any, of: _Size, steps: int) -> _Size:
    """A causal operator."""
    kind = type(operator)
    if kind is ops.Identity:
        return of
    if kind in (ops.Leak, ops.StrictLeak):
        return _leak(operator, of, steps).fits()
    if kind is ops.PartialSums:
        return _sum(operator.matrix, operator.bias, of).fits()
    if kind is ops.Window:
        every = np.abs(operator.columns).max(0, keepdims=True)
        return _joined(_sum(every, None, of), _size(operator.columns, 0.0), _size(operator.bias)).fits()
    raise _InexactError


def _neuron(layer: Any, inputs: list[_Size], steps: int) -> _Size:
    potential = seen = _along(layer.integrate, inputs[0], steps)
    parts = [potential, _size(layer.threshold)]
    if layer.reset is not None:
        seen = potential if layer.estimate is None else _along(layer.estimate, inputs[0], steps)
        parts.append(_along(layer.reset, _estimated(layer.estimator, seen), steps))
    _joined(*parts).fits()
    return _SPIKES


def _estimated(estimator: Any, seen: _Size) -> _Size:
    if type(estimator) is ops.RawCurrent:
        return seen
    if type(estimator) is ops.Staircase:
        _size(estimator.thresholds).fits()
        step, offset = _size(estimator.height), _size(estimator.offset)
        return _joined(_Size(step.bits, step.most * len(estimator.thresholds)), offset)
    raise _InexactError


def _lif(layer: Any, inputs: list[_Size], steps: int) -> _Size:
    tau = 1.0 if layer.tau is None else layer.tau
    share = _size(1.0 / tau)
    if layer.tau not in (None, 1.0, 2.0, 4.0):
        raise _InexactError
    summed = _joined(inputs[0], _size(layer.threshold))
    _Size(summed.bits + (steps + 1) * share.bits, 2 * summed.most * (steps + 1)).fits()
    return _SPIKES


_Rule = Callable[[Any, list[_Size], int], _Size]


def _moved(layer: Any, inputs: list[_Size], steps: int) -> _Size:
    return _largest(*inputs)


def _added(layer: Any, inputs: list[_Size], steps: int) -> _Size:
    return _joined(*inputs)


def _activation(layer: Any, inputs: list[_Size], steps: int) -> _Size:
    if layer.kind not in ("relu", "abs", "neg"):
        raise _InexactError
    return inputs[0]


def _weighted(layer: Any, inputs: list[_Size], steps: int) -> _Size:
    return _sum(layer.weight, layer.bias, inputs[0])


_RULES: dict[type, _Rule] = {
    **dict.fromkeys((ops.Linear, ops.Conv1d, ops.Conv2d, ops.TimeConv), _weighted),
    **dict.fromkeys((ops.MaxPool, ops.Flatten, ops.Reshape, ops.Permute, ops.Take, ops.Delay, ops.Wait), _moved),
    **dict.fromkeys((ops.Concat, ops.Outputs), _moved),
    **dict.fromkeys((ops.Add, ops.Subtract), _added),
    ops.SumPool: lambda layer, inputs, steps: _sum(np.ones((1, *layer.kernel)), None, inputs[0]),
    ops.ChannelAffine: lambda layer, inputs, steps: _sum(layer.scale[:, None], layer.shift, inputs[0]),
    ops.ConstantPad: lambda layer, inputs, steps: _largest(inputs[0], _size(layer.value)),
    ops.Activation: _activation,
    ops.Filter: lambda layer, inputs, steps: _along(layer.operator, inputs[0], steps),
    ops.SpikingNeuron: _neuron,
    ops.LIFNeuron: _lif,
}
"""Kind -> (layer, sizes of its inputs, steps) -> size of what comes out."""
