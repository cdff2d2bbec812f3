"""One step of 700-1024-1024-20 in snntorch, SpikingJelly and norse, and of our own network, all firing alike.

What a step costs depends on how many neurons fire. So every network gets a bias per hidden layer with which a tenth of
its neurons fire, whatever its neuron is; weights and input are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import psu_deploy as psu

SIZES = (700, 1024, 1024, 20)
INPUT_RATE, HIDDEN_RATE = 0.05, 0.10
TAU, THRESHOLD = 2.0, 0.5

Cell = Callable[[Tensor], Tensor]
"""A layer of neurons that keeps its own state: currents of a step -> spikes."""


class Snntorch:
    """`snntorch.Leaky`."""

    def __init__(self) -> None:
        import snntorch

        self._neuron = snntorch.Leaky(beta=1 - 1 / TAU, threshold=THRESHOLD)
        self._membrane = self._neuron.reset_mem()

    def __call__(self, current: Tensor) -> Tensor:
        spikes, self._membrane = self._neuron(current, self._membrane)
        return spikes


class SpikingJelly:
    """`spikingjelly.activation_based.neuron.LIFNode`, step mode "s"."""

    def __init__(self) -> None:
        from spikingjelly.activation_based.neuron import LIFNode

        self._neuron = LIFNode(tau=TAU, v_threshold=THRESHOLD, step_mode="s")

    def __call__(self, current: Tensor) -> Tensor:
        return self._neuron(current)


class Norse:
    """`norse.torch.LIFBoxCell`."""

    def __init__(self) -> None:
        import norse.torch as norse

        parameters = norse.LIFBoxParameters(v_th=torch.as_tensor(THRESHOLD))
        self._neuron, self._state = norse.LIFBoxCell(parameters), None

    def __call__(self, current: Tensor) -> Tensor:
        spikes, self._state = self._neuron(current, self._state)
        return spikes


LIBRARIES: dict[str, Callable[[], Cell]] = {"snntorch": Snntorch, "SpikingJelly": SpikingJelly, "norse": Norse}


class Stepped:
    """A network of somebody's neurons that is fed step by step."""

    def __init__(self, make: Callable[[], Cell], linears: Sequence[nn.Linear]) -> None:
        self._make, self._linears = make, linears
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._cells = [self._make() for _ in self._linears[1:]]

    @torch.no_grad()
    def step(self, x: np.ndarray) -> np.ndarray:
        """(B, 700) -> (B, 20)."""
        value = torch.from_numpy(x)
        for linear, cell in zip(self._linears, self._cells, strict=False):
            value = cell(linear(value))
        return self._linears[-1](value).numpy()


def spikes_in(steps: int, batch: int, size: int = SIZES[0]) -> np.ndarray:
    """(steps, batch, size), a twentieth of them ones."""
    return (np.random.default_rng(0).random((steps, batch, size)) < INPUT_RATE).astype(np.float32)


def simulators(x: np.ndarray) -> dict[str, Stepped]:
    """The libraries that are installed; x is (T, 1, 700), which they are made to fire alike on."""
    found = {}
    for name, make in LIBRARIES.items():
        try:
            make()
        except ImportError:
            print(f"{name}: not installed, left out")
            continue
        linears = linears_of(SIZES)
        calibrate(linears, lambda currents, make=make: _over_time(make(), currents), x)
        found[name] = Stepped(make, linears)
    return found


def ours(x: np.ndarray, sizes: Sequence[int] = SIZES) -> nn.Module:
    """The same network of PSUs."""
    linears, neurons = linears_of(sizes), [psu.PSU(TAU, THRESHOLD) for _ in sizes[2:]]
    calibrate(linears, psu.PSU(TAU, THRESHOLD), x)
    layers: list[Any] = [linears[0]]
    for neuron, linear in zip(neurons, linears[1:], strict=True):
        layers += [neuron, linear]
    return psu.SpikingSequential(*layers)


def linears_of(sizes: Sequence[int]) -> list[nn.Linear]:
    """The same weights every time, such that the currents of a layer differ by about the threshold."""
    torch.manual_seed(0)
    linears = [nn.Linear(n, m) for n, m in pairwise(sizes)]
    with torch.no_grad():
        for linear, rate in zip(linears, (INPUT_RATE, *[HIDDEN_RATE] * len(linears)), strict=False):
            linear.weight.normal_(0.0, THRESHOLD * (rate * linear.in_features) ** -0.5)
    return linears


@torch.no_grad()
def calibrate(linears: Sequence[nn.Linear], neurons: Cell, x: np.ndarray) -> None:
    """Find the bias of each hidden layer at which a tenth of its neurons fire on x, (T, B, n)."""
    value = torch.from_numpy(x)
    for linear in linears[:-1]:
        linear.bias.zero_()
        currents, low, high = linear(value), -20.0, 20.0
        for _ in range(24):
            bias = (low + high) / 2
            spikes = neurons(currents + bias)
            low, high = (bias, high) if float(spikes.mean()) < HIDDEN_RATE else (low, bias)
        linear.bias.fill_(bias)
        value = spikes


def _over_time(cell: Cell, currents: Tensor) -> Tensor:
    return torch.stack([cell(current) for current in currents])
