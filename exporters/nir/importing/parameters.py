"""Parameters of NIR nodes: one number per neuron in the file, one per layer or per channel in the machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.errors import Refusal
from psu_deploy.exporters.nir.files.nodes import numbers
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Array, Shape

MOST_KINDS = 64
"""Different values of one parameter in one node; each becomes a branch of its own."""

ROUNDED = 1e-6
"""Relative; 1e-4 in float32 and 1e-4 in float64 are the same time."""


def parameter(node: Any, name: str, default: float = 0.0) -> Array:
    """A parameter, (*features) or 0-d; older files lack some."""
    return np.float64(default) + np.zeros(()) if getattr(node, name, None) is None else numbers(node, name)


def uniform(values: Array, name: str) -> float:
    """The one number that all neurons share.

    Raises:
        Refusal: if they differ.
    """
    if (values != values.flat[0]).any():
        raise Refusal(
            f"{name} differs between its neurons, {values.min():g} .. {values.max():g}",
            f"use one {name} for the whole node, or one node for every {name}",
        )
    return float(values.flat[0])


def apart(values: Array, features: Shape, name: str) -> list[tuple[float, Array]]:
    """The values that occur, each with the channels it holds for as a mask (C,) of 0 and 1.

    Raises:
        Refusal: if they differ within a channel, or too many different ones occur.
    """
    channels = per_channel(values, features, name)
    found = np.unique(channels)
    if len(found) > MOST_KINDS:
        raise Refusal(
            f"{name} has {len(found)} different values, {found[0]:g} .. {found[-1]:g}",
            f"use at most {MOST_KINDS}, or one node for each",
        )
    return [(float(value), (channels == value).astype(np.float64)) for value in found]


def share_of(dt: float, tau: float, name: str) -> float:
    """dt/tau, the share of the way to its target that a leak goes in one step; exactly 1 where rounding hides it.

    Raises:
        Refusal: if it is above 1, where forward Euler overshoots.
    """
    share = dt / tau
    if abs(share - 1) <= ROUNDED:
        return 1.0
    if share > 1:
        raise Refusal(
            f"{name} = {tau:g} s is shorter than one step of dt = {dt:g} s: forward Euler overshoots",
            f"pass dt <= {tau:g}",
        )
    return share


def drive(scale: Array, shift: Array, features: Shape, name: str) -> list[ops.Layer]:
    """`scale*x + shift`; nothing where that is x.

    Args:
        scale: a number per neuron, or one.
        shift: a number per neuron, or one.
        features: of x.
        name: what messages call the scale.

    Raises:
        Refusal: if one of them differs within a channel.
    """
    if not (scale != 1).any() and not shift.any():
        return []
    return [ops.ChannelAffine(per_channel(scale, features, name), per_channel(shift, features, "offset"))]


def per_channel(values: Array, features: Shape, name: str) -> Array:
    """(C,): what all places of a channel share.

    Raises:
        Refusal: if they differ.
    """
    rows = np.broadcast_to(values, features).reshape(features[0], -1)
    if (rows != rows[:, :1]).any():
        raise Refusal(
            f"{name} differs within a channel, {values.min():g} .. {values.max():g}",
            f"use one {name} per channel, the first axis of {features}",
        )
    return np.array(rows[:, 0])
