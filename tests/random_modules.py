"""Random torch modules of what people put between their neurons: norms, activations, attention, gates, resampling."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import psu_deploy as psu
from tests.helpers import Forward

NEURONS = (
    lambda: psu.PSU(threshold=0.3),
    lambda: psu.PSU(3.0, threshold=0.2, fire_on=">"),
    lambda: psu.LIF(2.0, threshold=0.4),
    lambda: psu.LIF(3.0, decay_input=False, reset="soft", threshold=0.5),
    lambda: psu.SlidingPSN(3),
)

ACTIVATIONS = (
    *(
        nn.ReLU,
        nn.Sigmoid,
        nn.Tanh,
        nn.SiLU,
        nn.Mish,
        nn.Hardswish,
        nn.Hardsigmoid,
        nn.Softsign,
        nn.LogSigmoid,
        nn.GELU,
    ),
    *(nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.ReLU6, nn.Hardtanh, nn.Softplus),
    lambda: nn.GELU(approximate="tanh"),
    lambda: nn.Softmax(-1),
    lambda: nn.LogSoftmax(-1),
)

POINTWISE = (
    lambda net, x: torch.exp(-x.abs()),
    lambda net, x: (x * x + 1).log(),
    lambda net, x: (x.abs() + 0.1).rsqrt(),
    lambda net, x: (x.abs() + 0.1).sqrt() - 0.5,
    lambda net, x: x / (1 + x * x),
    lambda net, x: torch.sin(x) + torch.cos(2 * x),
    lambda net, x: x.clamp(-1, 1) * 2 - 0.3,
    lambda net, x: x - x.mean(-1, keepdim=True),
    lambda net, x: x * torch.sigmoid(x.mean(-1, keepdim=True)),
    lambda net, x: x.flip(-1),
    lambda net, x: torch.cat([x, x.roll(1, -1)], -1),
    lambda net, x: x.amax(-1, keepdim=True) - x,
    lambda net, x: F.leaky_relu(x, 0.2),
)


def attention(width):
    def forward(net, x):
        T, B, N, _ = x.shape
        q, k, v = net.qkv(x).reshape(T, B, N, 3, 2, width // 2).permute(3, 0, 1, 4, 2, 5).unbind(0)
        seen = ((q @ k.transpose(-2, -1)) * (width // 2) ** -0.5).softmax(-1) @ v
        return x + net.out(seen.transpose(2, 3).reshape(T, B, N, width))

    return Forward(forward, qkv=nn.Linear(width, 3 * width), out=nn.Linear(width, width))


def squeeze_and_excite(channels):
    def forward(net, x):
        gate = net.up(net.down(x.mean((3, 4))).relu()).sigmoid()
        return x * gate[..., None, None]

    return Forward(forward, down=nn.Linear(channels, 2), up=nn.Linear(2, channels))


class _Draw:
    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def one(self, choices):
        return choices[int(self.random.integers(len(choices)))]

    def whole(self, low, high):
        return int(self.random.integers(low, high + 1))


def _lifted(layer):
    return Forward(lambda net, x: net.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2]), layer=layer)


def _weights(d, shape):
    if len(shape) == 1 or d.whole(0, 3) == 0:
        return nn.Linear(shape[-1], d.one((4, 6)))
    kind = d.one((nn.Conv1d, nn.ConvTranspose1d) if len(shape) == 2 else (nn.Conv2d, nn.ConvTranspose2d))
    return _lifted(kind(shape[0], d.one((4, 6)), d.whole(1, 3), d.whole(1, 2), d.whole(0, 1)))


def _norm(d, shape):
    kinds = [nn.LayerNorm(shape[-1]), nn.LayerNorm(shape), nn.RMSNorm(shape[-1])]
    if len(shape) > 1:
        kinds += [_lifted(nn.GroupNorm(2, shape[0])), _lifted(nn.GroupNorm(1, shape[0]))] if shape[0] % 2 == 0 else []
    if len(shape) == 3:
        kinds += [_lifted(nn.InstanceNorm2d(shape[0], affine=True)), _lifted(nn.BatchNorm2d(shape[0]))]
    return d.one(kinds)


def _resized(d, shape):
    if len(shape) != 3:
        return _pointwise(d, shape)
    return _lifted(
        d.one((nn.AdaptiveAvgPool2d(2), nn.MaxPool2d(2, 1, 1), nn.AvgPool2d(2, 1), nn.Upsample(scale_factor=2)))
    )


def _pointwise(d, shape):
    return d.one(ACTIVATIONS)() if d.whole(0, 1) else Forward(d.one(POINTWISE))


def _joined(d, shape):
    if len(shape) == 2 and shape[-1] % 2 == 0:
        return attention(shape[-1])
    return squeeze_and_excite(shape[0]) if len(shape) == 3 else psu.Residual(nn.Linear(shape[-1], shape[-1]), nn.GELU())


def random_module(seed):
    """Module in eval form, and the features it takes."""
    torch.manual_seed(seed)
    d = _Draw(seed)
    features = tuple(d.one((4, 6)) for _ in range(d.whole(1, 3)))
    layers, shape = [], features
    for _ in range(d.whole(2, 3)):
        for make in (_weights, d.one((_norm, _pointwise)), d.one((_pointwise, _resized, _joined)), _neuron):
            try:
                layer = make(d, shape)
                with torch.no_grad():
                    after = tuple(layer.eval()(torch.zeros(1, 1, *shape)).shape[2:])
            except (RuntimeError, ValueError):
                continue
            if np.prod(after) <= 300 and min(after) >= 1:
                layers, shape = [*layers, layer], after
    layers.append(nn.Flatten(2))
    layers.append(nn.Linear(int(np.prod(shape)), 3))
    net = nn.Sequential(*layers)
    return enlivened(net).eval(), features


def _neuron(d, shape):
    return d.one(NEURONS)()


def enlivened(net):
    """Weights of size 1, statistics and scales that are not those of the start."""
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d):
                size = parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1.0
                nn.init.normal_(parameter, 0.1, 1.2 / size)
            elif name in ("weight", "bias") and not isinstance(module, nn.PReLU):
                nn.init.normal_(parameter, 1.0 if name == "weight" else 0.2, 0.3)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.3, 2.0)
    return net
