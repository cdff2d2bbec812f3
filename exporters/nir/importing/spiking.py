"""NIR nodes that spike -> layers of the machine.

The machine counts a membrane potential from the reset potential, `u = v - v_reset`, and starts at u = 0: a NIR neuron
starts at its reset potential. That is v(0) = 0, where all simulators start, unless v_reset is something else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.exporters.nir.files.nodes import numbers
from psu_deploy.exporters.nir.importing import layers
from psu_deploy.exporters.nir.importing.layers import Converter, Layers
from psu_deploy.exporters.nir.importing.parameters import drive, parameter, share_of, uniform
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape


def threshold(node: Any, features: Shape, dt: float) -> Layers:
    """Threshold: `S = 1 if x > threshold else 0`; thresholds that differ are subtracted in front."""
    values = numbers(node, "threshold")
    if not (values != values.flat[0]).any():
        return [_memoryless(float(values.flat[0]))]
    return [*drive(np.ones(()), -values, features, "threshold"), _memoryless(0.0)]


def if_neuron(node: Any, features: Shape, dt: float) -> Layers:
    """IF: `u += dt*r*x; S = 1 if u > v_threshold - v_reset else 0; u = u*(1 - S)`."""
    return [*drive(numbers(node, "r") * dt, np.zeros(()), features, "r"), _fire(node, None)]


def lif_neuron(node: Any, features: Shape, dt: float) -> Layers:
    """LIF: `u += dt/tau*(v_leak - v_reset - u + r*x); S = 1 if u > v_threshold - v_reset else 0; u = u*(1 - S)`."""
    return _leaky(node, "tau", features, dt)


def current_lif_neuron(node: Any, features: Shape, dt: float) -> Layers:
    """CubaLIF: `i += dt/tau_syn*(w_in*x - i)`, and LIF of i."""
    return layers.synapse(node, features, dt) + _leaky(node, "tau_mem", features, dt)


def _leaky(node: Any, name: str, features: Shape, dt: float) -> Layers:
    tau = uniform(numbers(node, name), name)
    shift = numbers(node, "v_leak") - parameter(node, "v_reset")
    steps = 1.0 if share_of(dt, tau, name) == 1 else tau / dt
    return [*drive(numbers(node, "r"), shift, features, "r"), _fire(node, steps)]


def _fire(node: Any, steps: float | None) -> ops.Layer:
    """The neuron itself, with a time constant in steps; one step is no memory, so there is nothing to reset."""
    height = uniform(numbers(node, "v_threshold") - parameter(node, "v_reset"), "v_threshold - v_reset")
    if steps == 1:
        return _memoryless(height)
    return ops.LIFNeuron(tau=steps, decay_input=steps is not None, threshold=height, reset="hard", fire_on=">")


def _memoryless(height: float) -> ops.Layer:
    return ops.SpikingNeuron(ops.Identity(), None, ops.Sigmoid(), None, height, ">")


CONVERTERS: dict[str, Converter] = {
    "Input": layers.hand_on,
    "Output": layers.hand_on,
    "Affine": layers.linear,
    "Linear": layers.linear,
    "Scale": layers.scale,
    "Conv1d": layers.conv,
    "Conv2d": layers.conv,
    "SumPool2d": layers.pool,
    "AvgPool2d": layers.pool,
    "Flatten": layers.flatten,
    "Delay": layers.delay,
    "I": layers.integrator,
    "LI": layers.leaky_integrator,
    "CubaLI": layers.current_integrator,
    "Threshold": threshold,
    "IF": if_neuron,
    "LIF": lif_neuron,
    "CubaLIF": current_lif_neuron,
}
"""Type of a node -> its converter."""

SPIKING = ("Threshold", "IF", "LIF", "CubaLIF")
