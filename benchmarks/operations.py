"""How many operations a step of a network costs, as an estimate: only what a spike starts is counted.

    accumulates            sum over layers of weights of (spikes that arrive per step) x (outputs per input)
    multiply-accumulates   the same for layers whose input is no spikes, every input counted that is not zero;
                           and for every neuron and step what its update multiplies

An estimate: no memory access, no instruction, no idle cycle is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

import psu_deploy as psu
from psu_deploy.nn.neurons.base import Neuron

CONSTANTS = Path(__file__).parent / "energy.yaml"

UPDATES = {psu.LIF: 1, psu.PLIF: 1, psu.SPSN: 1, psu.PSU: 4}
"""Multiplications of one update of a neuron: decay V; for PSU gain and decay of V, and of R."""


@dataclass(frozen=True)
class Operations:
    """Of one step of one sample, on average.

    Args:
        accumulates: additions of a weight.
        multiplies: multiplications with an addition.
    """

    accumulates: float
    multiplies: float

    def nanojoules(self) -> float:
        """By the constants of `energy.yaml`."""
        cost = yaml.safe_load(CONSTANTS.read_text(encoding="utf-8"))
        return (self.accumulates * cost["accumulate"] + self.multiplies * cost["multiply_accumulate"]) / 1000


def count_operations(network: nn.Module, x: NDArray[np.float32]) -> Operations:
    """Run a network of linear layers and neurons on sequences x (T, N, *features), and count."""
    accumulates = multiplies = 0.0
    steps = x.shape[0] * x.shape[1]

    def linear(module: nn.Module, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        nonlocal accumulates, multiplies
        assert isinstance(module, nn.Linear)
        started = float((inputs[0] != 0).sum()) * module.out_features / steps
        if bool(((inputs[0] == 0) | (inputs[0] == 1)).all()):
            accumulates += started
        else:
            multiplies += started

    def neuron(module: nn.Module, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        nonlocal multiplies
        assert isinstance(module, Neuron)
        each = UPDATES.get(type(module), 3 + (module.horizon or 0) / 2)  # a row of a triangle has T / 2 entries
        multiplies += each * prod(inputs[0].shape[2:])

    kinds = {nn.Linear: linear, Neuron: neuron}
    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        for kind, count in kinds.items()
        if isinstance(module, kind)
    ]
    with torch.no_grad():
        network.eval()(torch.from_numpy(x))
    for hook in hooks:
        hook.remove()
    return Operations(accumulates, multiplies)
