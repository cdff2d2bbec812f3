"""Random networks that Lava can express, untrained but awake: thresholds low enough that every layer fires."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import psu_deploy as psu
from psu_deploy.machine import StateMachine

NEURONS = ("psu", "rpsu", "ipsu", "ppsu", "coded", "sliding", "exponentials", "staircase", "table", "soft", "hard")


def neuron(kind: str, T: int, random: np.random.Generator) -> nn.Module:
    """One neuron layer of a kind, with random constants and matrices."""
    tau, threshold = float(random.choice([1.5, 2.0, 3.0, 7.0])), float(random.uniform(0.03, 0.15))
    fire_on = str(random.choice([">=", ">"]))
    common = {"tau": tau, "threshold": threshold, "fire_on": fire_on}
    made: dict[str, nn.Module] = {
        "psu": psu.PSU(**common),
        "rpsu": psu.RPSU(T, bias=True, **common),
        "ipsu": psu.IPSU(T, bias=True, **common),
        "ppsu": psu.PPSU(T, bias=True, **common),
        "coded": psu.IPSU(T, bias=True, reset_input="current", reset_gain=1.0, decay=1 / tau, **common),
        "sliding": psu.SlidingPSN(order=int(random.integers(1, 5))),
        "exponentials": psu.RPSU(T, temporal="exponentials", terms=3, bias=True, **common),
        "staircase": psu.PSU(estimator=psu.Staircase(7), **common),
        "table": psu.RPSU(T, estimator=psu.SigmoidTable(), **common),
        "soft": psu.LIF(tau, threshold, reset="soft", fire_on=fire_on),
        "hard": psu.LIF(tau, threshold, reset="hard", decay_input=bool(random.integers(2)), fire_on=fire_on),
        "if": psu.PSU(tau=1e9, threshold=threshold, decay=1.0, gain=1.0),
    }
    with torch.no_grad():
        for parameter in made[kind].parameters():
            noise = torch.from_numpy(random.normal(0, 0.1, parameter.shape))
            parameter += (noise.tril() if parameter.ndim == 2 else noise).to(parameter.dtype)
    return made[kind]


def dense(seed: int, T: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Two to four spiking layers on one axis, with or without a readout layer."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 24, int(random.integers(2, 5))).tolist()
    layers: list[nn.Module] = []
    for inputs, outputs in zip([int(random.integers(2, 30)), *sizes], sizes, strict=False):
        layers += [nn.Linear(inputs, outputs, bias=bool(random.integers(2))), neuron(_kind(random), T, random)]
    first = layers[0]
    assert isinstance(first, nn.Linear)
    if random.integers(2):
        layers.append(nn.Linear(sizes[-1], 5))
    return psu.SpikingSequential(*layers), (first.in_features,)


def image(seed: int, T: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Two convolutions with BatchNorm, pooling, and a dense end."""
    random = np.random.default_rng(seed)
    size = (2, int(random.integers(13, 18)), int(random.integers(13, 18)))
    layers: list[nn.Module] = [_conv(2, 4, 1, random), nn.BatchNorm2d(4), neuron(_kind(random), T, random)]
    layers.append(_pool(random))
    layers += [_conv(4, 6, 2, random), neuron(_kind(random), T, random)]
    room = psu.SpikingSequential(*layers).eval()(torch.zeros(T, 1, *size)).shape[-2:]
    if random.integers(2) and min(room) > 1:
        layers += [nn.AvgPool2d(2, ceil_mode=False)]
    flat = psu.SpikingSequential(*layers, nn.Flatten()).eval()
    width = flat(torch.zeros(T, 1, *size)).shape[-1]
    end = [nn.Linear(width, 9), neuron(_kind(random), T, random), nn.Linear(9, 4)]
    return psu.SpikingSequential(*layers, nn.Flatten(), *end), size


def row(seed: int, T: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Convolutions along one axis."""
    random = np.random.default_rng(seed)
    first = nn.Conv1d(3, 4, 3, padding=1, dilation=1)
    second = nn.Conv1d(4, 6, 2, stride=2, groups=2, bias=False)
    layers = [first, neuron(_kind(random), T, random), nn.AvgPool1d(2), second, neuron(_kind(random), T, random)]
    return psu.SpikingSequential(*layers, nn.Flatten(), nn.Linear(6 * 3, 3)), (3, 12)


def machine(seed: int, T: int, make=None) -> StateMachine:
    """A random network as a machine, its BatchNorm with numbers of its own."""
    torch.manual_seed(seed)
    model, shape = (make or (dense, image, row)[seed % 3])(seed, T)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, 0.0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return psu.to_state_machine(model.eval(), shape)


def spikes(machine: StateMachine, T: int, samples: int, seed: int = 0, kind: str = "binary") -> np.ndarray:
    """Input (T, B, *features): spikes, counts, or real numbers."""
    random = np.random.default_rng(seed)
    shape = (T, samples, *machine.input_shape)
    if kind == "binary":
        return (random.random(shape) < 0.3).astype(np.float32)
    if kind == "counts":
        return random.poisson(0.7, shape).astype(np.float32)
    return random.normal(0, 1, shape).astype(np.float32)


def _kind(random: np.random.Generator) -> str:
    return str(random.choice(NEURONS))


def _conv(inputs: int, outputs: int, groups: int, random: np.random.Generator) -> nn.Module:
    kernel = tuple(random.integers(1, 4, 2).tolist())
    padding = tuple(random.integers(0, 3, 2).tolist())
    stride, dilation = tuple(random.integers(1, 3, 2).tolist()), tuple(random.integers(1, 3, 2).tolist())
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=bool(random.integers(2)))


def _pool(random: np.random.Generator) -> nn.Module:
    kernel = int(random.integers(2, 4))
    pools = [
        nn.AvgPool2d(kernel, stride=int(random.integers(1, 4)), padding=int(random.integers(0, 2))),
        nn.AvgPool2d(2),
        nn.MaxPool2d(kernel, stride=int(random.integers(1, 3)), padding=int(random.integers(0, 2))),
    ]
    return pools[int(random.integers(3))]
