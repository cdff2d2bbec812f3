"""Neurons that reset by subtraction, written as a loop through their spikes, because NIR's own LIF resets to a value.

    H[t] = d*H[t-1] + g*(x[t] + f[t-1]),   S = 1 if H > threshold else 0,   f = c*S

With `g*c = -d*threshold` this is an LIF neuron: `H = V - V/tau + g*x`, `V = H - threshold*S`, `d = 1 - 1/tau`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from psu_deploy.errors import InputError, Refusal
from psu_deploy.exporters.nir.files import Flat
from psu_deploy.exporters.nir.files.nodes import kind_name
from psu_deploy.exporters.nir.importing.cycles import factor, without
from psu_deploy.exporters.nir.importing.layers import Branches, Layers
from psu_deploy.exporters.nir.importing.spiking import CONVERTERS, SPIKING
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape

_ROUNDED = 1e-6
"""Relative; a threshold moved by one float32 for the reader's tie rule, and a product of it."""


def take_resets(
    flat: Flat, known: Mapping[str, Layers | Branches], shapes: dict[str, tuple[Shape, Shape]], dt: float
) -> tuple[Flat, dict[str, Layers | Branches]]:
    """A graph without the loops that are resets by subtraction.

    Args:
        flat: without the cycles that are memory.
        known: what those became.
        shapes: features in and out of every node.
        dt: seconds per step.

    Returns:
        The graph without the nodes that feed back and their edges, and what the others are now: the node of H hands its
        input on, scaled by g, and the node of S is the neuron.
    """
    sources, readers = flat.sources(), flat.readers()
    found: dict[str, Layers | Branches] = {}
    gone = set()
    for back in flat.nodes:
        if len(sources[back]) != 1 or len(readers[back]) != 1:
            continue
        (spikes,), (potential,) = sources[back], readers[back]
        subtracted = factor(flat.nodes[back], shapes[back][0])
        alone = sources[spikes] == [potential] and readers[potential] == [spikes] and len(sources[potential]) > 1
        if subtracted is None or not alone or spikes in found:
            continue
        memory = known.get(potential, _layers(flat.nodes[potential], shapes[potential][0], dt))
        neuron = _neuron(memory, _layers(flat.nodes[spikes], shapes[spikes][0], dt), subtracted)
        if neuron is not None and kind_name(flat.nodes[spikes]) in SPIKING:
            gain, found[spikes] = neuron
            channels = shapes[potential][0][0]
            factors = ops.ChannelAffine(np.full(channels, gain), np.zeros(channels))
            found[potential] = [] if gain == 1 else [factors]
            gone.add(back)
    return without(flat, gone), found


def _neuron(memory: Layers | Branches, fires: Layers | Branches, back: float) -> tuple[float, Layers] | None:
    """The gain in front, and the neuron; None where these layers are none."""
    match memory, fires:
        case (
            [ops.Filter(ops.Leak(gain, decay))],
            [ops.SpikingNeuron(integrate=ops.Identity(), reset=None, threshold=threshold, fire_on=fire_on)],
        ):
            same = abs(gain * back + decay * threshold) <= _ROUNDED * abs(decay * threshold)
            if same and 0 < decay <= 1:
                tau = None if decay == 1 else 1 / (1 - decay)
                return gain, [ops.LIFNeuron(tau, False, threshold, "soft", fire_on)]
    return None


def _layers(node: Any, features: Shape, dt: float) -> Layers | Branches:
    try:
        return CONVERTERS[kind_name(node)](node, features, dt)
    except (Refusal, InputError):
        return []  # the walk along the graph will say so
