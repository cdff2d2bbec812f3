"""Random networks in eval form, with weights large enough to fire."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from torch import nn

import psu_deploy as psu
from psu_deploy.nn.temporal import CausalMatrix, MaskedMatrix, SlidingWindow

RANDOM = {
    "deadline": None,
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
"""Settings of a hypothesis test on these. No shrinking: it takes minutes, and random weights do not get simpler."""

CODED = {"bias": True, "reset_gain": 1.0, "fire_on": ">", "init": "kaiming"}
NEURONS = {
    "psu": lambda T, tau: psu.PSU(tau),
    "psu as coded": lambda T, tau: psu.PSU(tau, decay=1 / tau, fire_on=">"),
    "ipsu": lambda T, tau: psu.IPSU(T, tau),
    "ipsu as coded": lambda T, tau: psu.IPSU(T, tau, decay=1 / tau, reset_input="current", **CODED),
    "rpsu": lambda T, tau: psu.RPSU(T, tau),
    "rpsu as coded": lambda T, tau: psu.RPSU(T, tau, decay=1 / tau, **CODED),
    "ppsu": lambda T, tau: psu.PPSU(T, tau),
    "ppsu as coded": lambda T, tau: psu.PPSU(T, tau, decay=1 / tau, **CODED),
    "sliding psn": lambda T, tau: psu.SlidingPSN(min(T, 4)),
    "masked psn": lambda T, tau: psu.MaskedPSN(T, max(1, T // 2)),
    "lif": lambda T, tau: psu.LIF(tau),
    "lif undivided, soft": lambda T, tau: psu.LIF(tau, decay_input=False, reset="soft", fire_on=">"),
    "plif": lambda T, tau: psu.PLIF(tau),
    "spsn": lambda T, tau: psu.SPSN(tau, seed=T),
}


class Example:
    """A network in eval form, and an input it can be run on."""

    def __init__(self, model: nn.Module, x: torch.Tensor) -> None:
        self.model = model
        self.x = x

    def __repr__(self) -> str:
        return f"x {tuple(self.x.shape)}\n{self.model}"


class MeanOverTime(nn.Module):
    """The usual classifier: a network, then the mean of its outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x).mean(0)


@st.composite
def examples(draw):
    """1 to 4 blocks of weights, BatchNorm, pooling, a neuron and Dropout; a real-valued or a spiking output."""
    T, batch, depth = draw(st.integers(1, 40)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    axes = draw(st.integers(0, 2))
    features = (draw(st.integers(1, 3)), *[draw(st.integers(4, 6)) for _ in range(axes)])
    layers, now = [], features
    for _ in range(depth):
        block, now = draw(blocks(T, now))
        layers += block
        if len(now) > 1 and draw(st.booleans()):
            layers, now = [*layers, nn.Flatten()], (int(np.prod(now)),)
    network = psu.SpikingSequential(*layers)
    if len(now) == 1 and draw(st.booleans()):
        network = psu.SpikingSequential(*layers, nn.Linear(now[0], 3))
        network = MeanOverTime(network) if draw(st.booleans()) else network
    return Example(randomised(network), torch.randn(T, batch, *features) * 2 + 0.5)


@st.composite
def blocks(draw, T, features):
    """Weights always stand before a neuron: without them, margins could be exactly zero."""
    neuron = NEURONS[draw(st.sampled_from(list(NEURONS)))](T, draw(st.sampled_from([1.5, 2.0, 3.0])))
    if draw(st.integers(0, 3)) == 0:
        body = [same_shape(features), *maybe_norm(draw, features), neuron]
        return [psu.Residual(*body)], features
    weights, now = draw(synapses(features))
    norm, dropout = maybe_norm(draw, now), nn.Dropout(0.5)
    pool, pooled = draw(pools(now))
    if draw(st.booleans()):
        return [weights, *norm, *pool, neuron, dropout], pooled
    return [weights, *norm, neuron, *pool, dropout], pooled


@st.composite
def synapses(draw, features):
    outputs, bias = draw(st.integers(1, 4)), draw(st.booleans())
    if len(features) == 1 or draw(st.integers(0, 4)) == 0:
        return nn.Linear(features[-1], outputs, bias=bias), (*features[:-1], outputs)
    groups = draw(st.sampled_from([1, features[0]]))
    kernel, stride = draw(st.integers(1, min(3, *features[1:]))), draw(st.integers(1, 2))
    kind = nn.Conv1d if len(features) == 2 else nn.Conv2d
    layer = kind(features[0], groups * outputs, kernel, stride, draw(st.integers(0, 2)), groups=groups, bias=bias)
    return layer, tuple(layer(torch.zeros(1, *features)).shape[1:])


@st.composite
def pools(draw, features):
    if len(features) == 1 or draw(st.booleans()):
        return [], features
    kernel = draw(st.integers(1, min(2, *features[1:])))
    kind = draw(st.sampled_from([nn.AvgPool1d, nn.MaxPool1d] if len(features) == 2 else [nn.AvgPool2d, nn.MaxPool2d]))
    layer = kind(kernel, draw(st.integers(1, 2)), draw(st.integers(0, kernel // 2)))
    return [layer], tuple(layer(torch.zeros(1, *features)).shape[1:])


def same_shape(features):
    if len(features) == 1:
        return nn.Linear(features[0], features[0])
    return (nn.Conv1d if len(features) == 2 else nn.Conv2d)(features[0], features[0], 3, padding=1)


def maybe_norm(draw, features):
    if not draw(st.booleans()):
        return []
    return [(nn.BatchNorm2d if len(features) == 3 else nn.BatchNorm1d)(features[0])]


def randomised(network):
    """Weights large enough to fire, BatchNorm with statistics of its own, no operator along time as it started."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.normal_(module.weight, 0.3, 1.5 / module.weight[0].numel() ** 0.5)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -1, 1), (module.running_var, 0.2, 2.0)):
                nn.init.uniform_(tensor, low, high)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.uniform_(module.bias, -1.0, 1.0)
        if isinstance(module, CausalMatrix | MaskedMatrix | SlidingWindow | psu.PLIF):
            for parameter in module.parameters():
                parameter.data += 0.2 * torch.randn_like(parameter)
    return network.eval()
