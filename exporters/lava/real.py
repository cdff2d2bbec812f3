"""A block's real numbers as plain data: what the floating-point model in Lava computes with."""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.exporters.lava.chain import Block, BlockNeuron, Gate
from psu_deploy.exporters.lava.forms import RealDecay, RealSums, form_of, reset_of, row_of
from psu_deploy.exporters.lava.neurons import ESTIMATORS
from psu_deploy.machine import ops


def real_numbers(block: Block) -> dict[str, Any]:
    """Weight and bias in float32, and the neuron as nested plain values."""
    weight, bias = block.synapse.weight.astype(np.float32), block.synapse.bias.astype(np.float32)
    return {"weight": weight, "bias": bias, "neuron": _neuron(block.neuron)}


def _neuron(neuron: BlockNeuron) -> dict[str, Any]:
    match neuron:
        case None:
            return {"type": "RELAY", "operator": None}
        case ops.Filter(operator=operator):
            return {"type": "RELAY", "operator": form_of(operator).plain()}
        case Gate():
            return {"type": "GATE"}
        case ops.LIFNeuron():
            return _lif(neuron)
        case ops.SpikingNeuron():
            return _psu(neuron)


def _psu(neuron: ops.SpikingNeuron) -> dict[str, Any]:
    return {
        "type": "PSU",
        "integrate": form_of(neuron.integrate).plain(),
        "estimate": None if neuron.estimate is None else form_of(neuron.estimate).plain(),
        "estimator": row_of(ESTIMATORS, neuron.estimator).plain(neuron.estimator),
        "reset": None if neuron.reset is None else _reset(reset_of(neuron.reset)),
        "threshold": neuron.threshold,
        "fire_on": neuron.fire_on,
    }


def _lif(neuron: ops.LIFNeuron) -> dict[str, Any]:
    share = 0.0 if neuron.tau is None else 1.0 / neuron.tau
    return {
        "type": "LIF",
        "decay": 1.0 - share,
        "gain": share if neuron.decay_input else 1.0,
        "threshold": neuron.threshold,
        "hard": neuron.reset == "hard",
        "fire_on": neuron.fire_on,
    }


def _reset(form: RealDecay | RealSums) -> dict[str, Any]:
    return form.plain() if isinstance(form, RealDecay) else {"operator": form.plain()}
