"""What there is to fuse, and how a neuron is run both ways."""

from __future__ import annotations

import itertools

import torch

from psu_deploy.nn.kernels import step_by_step
from psu_deploy.nn.neurons import (
    IPSU,
    LIF,
    PLIF,
    PPSU,
    PSU,
    RPSU,
    Atan,
    MaskedPSN,
    PiecewiseLinear,
    Rectangle,
    SlidingPSN,
    Staircase,
)

SURROGATES = [Atan(2.0), PiecewiseLinear(1.3), Rectangle(0.8)]

UNITS = {
    "psu": lambda T, **options: PSU(3.0, 0.5, **options),
    "psu_coded": lambda T, **options: PSU(3.0, 0.5, decay=1 / 3, fire_on=">", **options),
    "psu_staircase": lambda T, **options: PSU(2.0, 0.5, estimator=Staircase(15), **options),
    "ipsu": lambda T, **options: IPSU(T, 3.0, 0.5, **options),
    "ipsu_current": lambda T, **options: IPSU(T, 3.0, 0.5, bias=True, reset_input="current", **options),
    "ipsu_exponentials": lambda T, **options: IPSU(T, 3.0, 0.5, bias=True, temporal="exponentials", **options),
    "rpsu": lambda T, **options: RPSU(T, 3.0, 0.5, bias=True, **options),
    "rpsu_staircase": lambda T, **options: RPSU(T, 3.0, 0.5, estimator=Staircase(4), **options),
    "rpsu_exponentials": lambda T, **options: RPSU(T, 3.0, 0.5, temporal="exponentials", terms=3, **options),
    "sliding_psn": lambda T, **options: SlidingPSN(3, **options),
    "masked_psn": lambda T, **options: MaskedPSN(T, 3, **options),
    "masking_psn": lambda T, **options: MaskedPSN(T, 3, 0.5, **options),
    "ppsu": lambda T, **options: PPSU(T, 3.0, 0.5, bias=True, **options),
}

LOOPS = {
    f"{kind.__name__}-{reset}-{decay}-{detach}": lambda T, r=reset, d=decay, k=kind, c=detach, **options: k(
        2.7, 0.7, reset=r, decay_input=d, detach_reset=c, **options
    )
    for kind, reset, decay, detach in itertools.product((LIF, PLIF), ("soft", "hard"), (True, False), (True, False))
}

ALL = UNITS | LOOPS
"""T, and a surrogate -> module."""


def learned(neuron, seed=0):
    """With random numbers for what is learned."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return neuron


def currents(T, *shape, seed=0):
    return torch.randn(T, *shape, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def trained(neuron, x, g):
    """Spikes, and the gradients of x and of what is learned."""
    neuron.zero_grad()
    x = x.detach().requires_grad_()
    spikes = neuron(x)
    spikes.backward(g)
    return spikes, {"x": x.grad, **{name: p.grad.clone() for name, p in neuron.named_parameters()}}


def both(neuron, x, g):
    """The same fused, and step by step."""
    fused = trained(neuron, x, g)
    assert "Fused" in type(fused[0].grad_fn).__name__, f"{neuron} did not run fused"
    with step_by_step():
        return fused, trained(neuron, x, g)
