"""What the fused operators mean: torch, step by step. Any device, any dtype, differentiable any number of times.

The neurons stand on this room; what it takes of them, it imports when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Gradients = tuple[Tensor, ...]


def spiking_unit(
    a: Tensor,
    b: Tensor | None,
    bias_a: Tensor | None,
    bias_b: Tensor | None,
    leak_a: Sequence[float],
    leak_b: Sequence[float],
    reset: Sequence[float],
    estimator: str,
    thresholds: Tensor | None,
    staircase: Sequence[float],
    threshold: float,
    fire_on: Any,
    surrogate: str,
    sharpness: float,
) -> Tensor:
    """S of a unit made of leaks, (T, ...), or its margin; see `operators`."""
    from psu_deploy.nn.neurons.estimators import climbed
    from psu_deploy.nn.temporal.scan import leak_scan

    potential = _potential(a, bias_a, leak_a)
    if estimator == "none":
        return _fired(potential - threshold, fire_on, surrogate, sharpness)
    estimated = potential if b is None else _potential(b, bias_b, leak_b)
    if estimator == "sigmoid":
        estimated = torch.sigmoid(estimated)
    elif estimator == "staircase":
        assert thresholds is not None
        estimated = climbed(estimated, thresholds, *staircase)
    margin = potential - leak_scan(estimated, *reset, strict=True) - threshold
    return _fired(margin, fire_on, surrogate, sharpness)


def lif(
    x: Tensor,
    share: Tensor | None,
    tau: float,
    threshold: float,
    hard: bool,
    decay_input: bool,
    detach_reset: bool,
    fire_on: Any,
    surrogate: str,
    sharpness: float,
) -> Tensor:
    """S of LIF, or of PLIF, whose share of the input is 1/tau, (); see `operators`."""
    membrane, spikes = torch.zeros_like(x[0]), []
    for current in x:
        charged = charge(membrane, current, tau, share, decay_input)
        fired = _fired(charged - threshold, fire_on, surrogate, sharpness)
        seen = fired.detach() if detach_reset else fired
        membrane = (1.0 - seen) * charged if hard else charged - threshold * seen
        spikes.append(fired)
    return torch.stack(spikes)


def charge(membrane: Tensor, current: Tensor, tau: float, share: Tensor | None, decay_input: bool) -> Tensor:
    """H, the potential before the spike: V moves towards the current by 1/tau of the way, or leaks and adds it."""
    driven = current - membrane if decay_input else membrane
    part = driven / tau if share is None else driven * share
    return membrane + part if decay_input else membrane - part + current


def exponentials(x: Tensor, gains: Tensor, decays: Tensor) -> Tensor:
    """A sum of exponentials, (T, ...); gains and decays are (r,)."""
    per_neuron = (-1, *[1] * (x.ndim - 1))
    gains, decays = gains.view(per_neuron), decays.view(per_neuron)
    traces, sums = x.new_zeros(len(gains), *x.shape[1:]), []
    for current in x:
        traces = decays * traces + gains * current
        sums.append(traces.sum(0))
    return torch.stack(sums)


def gradients(forward: Callable[..., Tensor], inputs: Sequence[Any], grad: Tensor, needed: Sequence[bool]) -> Any:
    """Of every input that needs one, None of the others; themselves differentiable where gradients are enabled."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Each a tensor of its own: b may have been computed from a, and that is not to be counted here.
        apart = [i.view_as(i) if n else i for i, n in zip(inputs, needed, strict=True)]
        wanted = [i for i, n in zip(apart, needed, strict=True) if n]
        found = iter(torch.autograd.grad(forward(*apart), wanted, grad, create_graph=again))
    return tuple(next(found) if n else None for n in needed)


def backward_of(forward: Callable[..., Tensor], shapes: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """The gradients of a reference as an operator of its own, which autograd does not look into."""

    def backward(grad: Tensor, *inputs: Any) -> Gradients:
        empty = shapes(grad, *inputs)
        needed = [i < len(empty) and isinstance(value, Tensor) for i, value in enumerate(inputs)]
        leaves = [v.detach().requires_grad_() if n else v for v, n in zip(inputs, needed, strict=True)]
        with _autograd_at_work():
            found = gradients(forward, leaves, grad, needed)
        return tuple(e if f is None else f.contiguous() for e, f in zip(empty, found, strict=False))

    return backward


def _autograd_at_work() -> Any:
    """Inside an operator torch records nothing, whatever the mode of gradients."""
    keys = torch._C.DispatchKey
    autograd = torch._C.DispatchKeySet(keys.AutogradFunctionality) | torch._C.DispatchKeySet(keys.ADInplaceOrView)
    include, exclude = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    return torch._C._ForceDispatchKeyGuard(include, exclude - autograd)


def _potential(x: Tensor, bias: Tensor | None, leak: Sequence[float]) -> Tensor:
    from psu_deploy.nn.temporal.scan import leak_scan

    if leak:
        return leak_scan(x, *leak)
    return x if bias is None else x + bias.view(-1, *[1] * (x.ndim - 1))


def _fired(margin: Tensor, fire_on: Any, surrogate: str, sharpness: float) -> Tensor:
    from psu_deploy.nn.neurons.surrogate import Atan, PiecewiseLinear, Rectangle, fire

    if surrogate == "none":
        return margin
    kinds: dict[str, Any] = {"atan": Atan, "piecewise_linear": PiecewiseLinear, "rectangle": Rectangle}
    return fire(margin, kinds[surrogate](sharpness), fire_on)
