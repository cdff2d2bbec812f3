"""Which neurons one fused operator can compute, and what it is told of them. All others run step by step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from psu_deploy.nn.kernels import operators
from psu_deploy.nn.neurons.estimators import Staircase
from psu_deploy.nn.neurons.surrogate import Atan, PiecewiseLinear, Rectangle, Surrogate
from psu_deploy.nn.temporal import CausalMatrix, Exponentials, Leak, MaskedMatrix, SlidingWindow, StrictLeak

MOST_STEPS = 63
"""Of a staircase: a kernel compares with every one, torch searches."""

_PRODUCTS = (CausalMatrix, MaskedMatrix, SlidingWindow, Exponentials)
"""Operators whose bias a kernel adds."""

_SHARPNESS = {
    Atan: ("atan", "alpha"),
    PiecewiseLinear: ("piecewise_linear", "alpha"),
    Rectangle: ("rectangle", "half_width"),
}


def is_plain(module: object, kind: type[nn.Module]) -> bool:
    """Whether a module is one of ours and computes as its class says: no subclass, nothing hooked on or put in."""
    return type(module) is kind and not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def named(surrogate: Surrogate) -> tuple[str, float] | None:
    """A surrogate as the kernels know it; None if they do not."""
    if type(surrogate) not in _SHARPNESS:
        return None
    name, field = _SHARPNESS[type(surrogate)]
    value = getattr(surrogate, field)
    return (name, float(value)) if isinstance(value, int | float) else None


def estimator(module: nn.Module, like: Tensor) -> tuple[str, Tensor | None, list[float]] | None:
    """An estimator as the kernels know it: name, thresholds, height and offset; None if they do not."""
    if is_plain(module, nn.Sigmoid):
        return "sigmoid", None, []
    if is_plain(module, nn.Identity):
        return "identity", None, []
    if isinstance(module, Staircase) and is_plain(module, Staircase) and module.levels <= MOST_STEPS:
        return "staircase", module._steps.to(like.dtype), [module.height, module.offset]
    return None


def leak(module: nn.Module | None, kind: type[Leak]) -> list[float]:
    """Gain and decay of a plain leak, or nothing."""
    if not is_plain(module, kind):
        return []
    assert isinstance(module, Leak)
    numbers = [module.gain, module.decay]
    return numbers if all(type(number) is float for number in numbers) else []


def branch(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None, list[float]]:
    """What a kernel is given of V, or of E: a sequence, a bias per step, and a leak that it applies itself."""
    leaks = leak(module, Leak)
    if leaks:
        return x, None, leaks
    if isinstance(module, _PRODUCTS) and any(is_plain(module, kind) for kind in _PRODUCTS):
        return module.product(x), module.bias_of(x), []
    y: Tensor = module(x)
    return y, None, []


def spiking_unit(unit: Any, x: Tensor, surrogate: tuple[str, float]) -> Tensor | None:
    """S of a `SpikingUnit` by the fused operator, its margin if the surrogate is none; None if it cannot say.

    Args:
        unit: of whatever operators; what it fires by is that of its base.
        x: (T, B, *features), float32.
        surrogate: name and sharpness.
    """
    has_reset = unit.reset is not None and unit.estimate is not None
    resets = leak(unit.reset, StrictLeak) if has_reset else [0.0, 0.0]
    estimates = estimator(unit.estimator, x) if has_reset else ("none", None, [])
    if not resets or estimates is None:
        return None
    a, bias_a, leak_a = branch(unit.integrate, x)
    one_branch = not has_reset or unit.estimate is unit.integrate
    b, bias_b, leak_b = (None, None, []) if one_branch else branch(unit.estimate, x)
    branches = a, b, bias_a, bias_b, leak_a, leak_b
    return operators.spiking_unit(*branches, resets, *estimates, unit.threshold, unit.fire_on, *surrogate)
