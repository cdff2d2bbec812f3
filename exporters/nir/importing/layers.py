"""NIR nodes without spikes -> layers of the machine, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir.files.nodes import kind_name, numbers
from psu_deploy.exporters.nir.files.shapes import flattened_axes, padding_of, whole
from psu_deploy.exporters.nir.importing.parameters import (
    ROUNDED,
    apart,
    drive,
    parameter,
    per_channel,
    share_of,
    uniform,
)
from psu_deploy.machine import ops
from psu_deploy.machine.ops.along_time import MAX_DELAY
from psu_deploy.machine.ops.fields import Array, Shape

Layers = list[ops.Layer]


@dataclass(frozen=True)
class Branches:
    """Chains of layers side by side, whose results are summed."""

    chains: tuple[Layers, ...]


Converter = Callable[[Any, Shape, float], Layers | Branches]
"""(node, features in, seconds per step) -> layers, in order; none where the node hands on what it gets."""


def hand_on(node: Any, features: Shape, dt: float) -> Layers:
    """`y = x`: an Input or Output, of the network or of a subgraph."""
    return []


def linear(node: Any, features: Shape, dt: float) -> Layers:
    """`y = W x + b`: Affine and Linear."""
    weight = numbers(node, "weight")
    if weight.ndim != 2:
        raise Refusal(f"its weight has shape {weight.shape}, a matrix for each of many places", "use (out, in)")
    bias = np.broadcast_to(numbers(node, "bias"), len(weight)) if hasattr(node, "bias") else None
    return [ops.Linear(weight, bias)]


def conv(node: Any, features: Shape, dt: float) -> Layers:
    """Conv1d and Conv2d: cross-correlation with zeros around, as torch has it."""
    weight = numbers(node, "weight")
    kernel = weight.shape[2:]
    stride, dilation = (whole(getattr(node, name), name, 1, len(kernel)) for name in ("stride", "dilation"))
    (groups,) = whole(node.groups, "groups", 1, 1)
    bias = None if node.bias is None else numbers(node, "bias")
    kind = ops.Conv1d if len(kernel) == 1 else ops.Conv2d
    return [kind(weight, bias, stride, padding_of(node, kernel, dilation, stride), dilation, groups)]


def scale(node: Any, features: Shape, dt: float) -> Layers:
    """`y = s x`, entry by entry."""
    return drive(numbers(node, "scale"), np.zeros(()), features, "scale")


def pool(node: Any, features: Shape, dt: float) -> Layers:
    """SumPool2d and AvgPool2d; padded zeros count in the mean, as in torch."""
    kernel, stride = (whole(getattr(node, name), name, 1, 2) for name in ("kernel_size", "stride"))
    padding = tuple((p, p) for p in whole(node.padding, "padding", 0, 2))
    return [(ops.SumPool if kind_name(node) == "SumPool2d" else ops.AvgPool)(kernel, stride, padding)]


def flatten(node: Any, features: Shape, dt: float) -> Layers:
    """All features in one axis."""
    start, end = flattened_axes(node, features)
    if start == end:
        return []
    if (start, end) != (0, len(features) - 1):
        raise Refusal(f"it joins axes {start} to {end} of {features} only", "flatten all features")
    return [ops.Flatten()]


def delay(node: Any, features: Shape, dt: float) -> Layers | Branches:
    """`y[t] = x[t - delay/dt]`; channels of another delay in a branch of their own."""
    kinds = apart(numbers(node, "delay"), features, "delay")
    if len(kinds) == 1:
        return _delayed(kinds[0][0], dt)
    return Branches(tuple([_only(mask), *_delayed(seconds, dt)] for seconds, mask in kinds))


def _only(mask: Array) -> ops.Layer:
    """Some channels; the others are zero."""
    return ops.ChannelAffine(mask, np.zeros(len(mask)))


def _delayed(seconds: float, dt: float) -> Layers:
    steps = round(seconds / dt) if seconds / dt < 2 * MAX_DELAY else 2 * MAX_DELAY
    if not 0 <= steps <= MAX_DELAY:
        raise Refusal(f"a delay of {seconds:g} s is {seconds / dt:g} steps", f"0 to {MAX_DELAY} steps are possible")
    if abs(seconds / dt - steps) > ROUNDED * max(steps, 1):
        raise Refusal(
            f"a delay of {seconds:g} s is {seconds / dt:g} steps, no whole number", "choose a dt that divides it"
        )
    return [ops.Delay(steps)] if steps else []


def integrator(node: Any, features: Shape, dt: float) -> Layers:
    """I: `v += dt*r*x`."""
    return _scaled(numbers(node, "r") * dt, 1.0, features)


def leaky_integrator(node: Any, features: Shape, dt: float) -> Layers | Branches:
    """LI: `v += dt/tau*(v_leak - v + r*x)`; channels of another tau in a branch of their own."""
    kinds = apart(numbers(node, "tau"), features, "tau")
    if len(kinds) > 1 and not numbers(node, "v_leak").any():
        gains = per_channel(numbers(node, "r"), features, "r")
        shares = [(share_of(dt, tau, "tau"), mask) for tau, mask in kinds]
        return Branches(tuple(masked_leak(gains * mask * share, 1 - share) for share, mask in shares))
    return leak(node, "tau", numbers(node, "r"), numbers(node, "v_leak"), features, dt)


def current_integrator(node: Any, features: Shape, dt: float) -> Layers:
    """CubaLI: `i += dt/tau_syn*(w_in*x - i); v += dt/tau_mem*(v_leak - v + r*i)`."""
    membrane = leak(node, "tau_mem", numbers(node, "r"), numbers(node, "v_leak"), features, dt)
    return synapse(node, features, dt) + membrane


def synapse(node: Any, features: Shape, dt: float) -> Layers:
    """Synaptic current: `i += dt/tau_syn*(w_in*x - i)`."""
    return leak(node, "tau_syn", parameter(node, "w_in", 1.0), np.zeros(()), features, dt)


def leak(node: Any, name: str, gain: Array, shift: Array, features: Shape, dt: float) -> Layers:
    """`v += dt/tau*(gain*x + shift - v)`; where dt = tau nothing is remembered."""
    share = share_of(dt, uniform(numbers(node, name), name), name)
    if share == 1:
        return drive(gain, shift, features, "gain")
    if shift.any():
        return [*drive(gain, shift, features, "gain"), ops.Filter(ops.Leak(share, 1 - share))]
    return _scaled(gain * share, 1 - share, features)


def masked_leak(gains: Array, decay: float) -> Layers:
    """`v = decay*v + gains*x`, a gain per channel; nothing remembered where decay is 0."""
    scaled: Layers = [ops.ChannelAffine(gains, np.zeros(len(gains)))]
    return [*scaled, ops.Filter(ops.Leak(1.0, decay))] if decay else scaled


def _scaled(gain: Array, decay: float, features: Shape) -> Layers:
    """`v = decay*v + gain*x`."""
    if not (gain != gain.flat[0]).any():
        return [ops.Filter(ops.Leak(float(gain.flat[0]), decay))]
    channels = per_channel(gain, features, "gain")
    return [ops.ChannelAffine(channels, np.zeros(features[0])), ops.Filter(ops.Leak(1.0, decay))]
