"""A block's real numbers as plain data: what the floating-point model in Lava computes with."""

from __future__ import annotations

from typing import Any

import numpy as np

from psu_deploy.errors import InternalError
from psu_deploy.exporters.lava.chain import Block, BlockNeuron, Gate
from psu_deploy.exporters.lava.neurons import columns_of
from psu_deploy.machine import operators, ops


def real_numbers(block: Block) -> dict[str, Any]:
    """Weight and bias in float32, and the neuron as nested plain values."""
    weight, bias = block.synapse.weight.astype(np.float32), block.synapse.bias.astype(np.float32)
    return {"weight": weight, "bias": bias, "neuron": _neuron(block.neuron)}


def _neuron(neuron: BlockNeuron) -> dict[str, Any]:
    match neuron:
        case None:
            return {"type": "RELAY", "operator": None}
        case ops.Filter(operator=operator):
            return {"type": "RELAY", "operator": _operator(operator)}
        case Gate():
            return {"type": "GATE"}
        case ops.LIFNeuron():
            return _lif(neuron)
    return {
        "type": "PSU",
        "integrate": _operator(neuron.integrate),
        "estimate": None if neuron.estimate is None else _operator(neuron.estimate),
        "estimator": _estimator(neuron.estimator),
        "reset": _reset(neuron.reset),
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


def _operator(operator: operators.Operator) -> dict[str, Any]:
    match operator:
        case operators.Identity():
            return {"kind": "Identity"}
        case operators.Leak(gain, decay):
            return {"kind": "Traces", "decays": [decay], "gains": [gain], "bias": 0.0}
        case operators.Exponentials(gains, decays, bias):
            return {"kind": "Traces", "decays": decays.tolist(), "gains": gains.tolist(), "bias": bias}
        case operators.PartialSums(matrix, bias):
            return {"kind": "Sums", "columns": columns_of(matrix).tolist(), "bias": bias.tolist()}
        case operators.Window(columns, bias):
            return {"kind": "Sums", "columns": columns.tolist(), "bias": bias.tolist()}
    raise InternalError(f"no plain form of {type(operator).__name__}")


def _estimator(estimator: operators.Estimator) -> dict[str, Any]:
    match estimator:
        case operators.Staircase(thresholds, height, offset):
            return {"kind": "Levels", "thresholds": thresholds.tolist(), "height": height, "offset": offset}
        case operators.SigmoidTable():
            return {"kind": "Table"}
        case operators.RawCurrent():
            return {"kind": "Raw"}
    return {"kind": "Sigmoid"}


def _reset(operator: operators.Operator | None) -> dict[str, Any] | None:
    match operator:
        case None:
            return None
        case operators.StrictLeak(gain, decay):
            return {"gain": gain, "decay": decay}
    return {"operator": _operator(operator)}
