"""Pointwise functions and softmax: modules, functions and tensor methods -> layers of the state machine."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from psu_deploy.capture.conversion import Converter, FunctionRule, Layers, array
from psu_deploy.capture.values import Value
from psu_deploy.errors import InputError, Refusal
from psu_deploy.machine import ops
from psu_deploy.machine.ops.fields import Shape


def _made(kind: Callable[..., ops.Layer], *numbers: Any) -> ops.Layer:
    """A layer with numbers, or why there is none with these."""
    for number in numbers:
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise Refusal(f"takes {type(number).__name__} where a plain number is understood", "use a number")
    try:
        return kind(*numbers)
    except InputError as error:
        raise Refusal(str(error), "use other numbers") from error


def _activation(kind: str) -> FunctionRule:
    def rule(x: Value, inplace: bool = False) -> ops.Layer:
        return ops.Activation(kind)

    return rule


def _elementary(kind: str) -> FunctionRule:
    def rule(x: Value) -> ops.Layer:
        return ops.Elementary(kind)

    return rule


def _power(exponent: float) -> FunctionRule:
    def rule(x: Value) -> ops.Layer:
        return ops.Power(exponent)

    return rule


def _pow(x: Value, exponent: Any) -> ops.Layer:
    return _made(ops.Power, exponent)


def _gelu(x: Value, approximate: str = "none") -> ops.Layer:
    if approximate not in ("none", "tanh"):
        raise Refusal(f"approximate={approximate!r}", 'use "none" or "tanh"')
    return ops.Activation("gelu" if approximate == "none" else "gelu_tanh")


def _leaky_relu(x: Value, negative_slope: Any = 0.01, inplace: bool = False) -> ops.Layer:
    return _made(ops.LeakyReLU, negative_slope)


def _prelu(x: Value, weight: Any) -> ops.Layer:
    if not isinstance(weight, torch.Tensor) or (weight.numel() > 1 and not x.is_batch):
        raise Refusal("slopes that are computed, or meant for the batch", "give a parameter and (B, C, ...)")
    return ops.PReLU(array(weight.flatten()))


def _elu(x: Value, alpha: Any = 1.0, inplace: bool = False) -> ops.Layer:
    return _made(ops.ELU, alpha)


def _celu(x: Value, alpha: Any = 1.0, inplace: bool = False) -> ops.Layer:
    return _made(lambda a: ops.ELU(a, 1.0, 1.0 / a if a else 0.0), alpha)


SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)
"""alpha and scale (Klambauer et al. 2017, eq. 14)."""


def _selu(x: Value, inplace: bool = False) -> ops.Layer:
    return ops.ELU(*SELU)


def _softplus(x: Value, beta: Any = 1.0, threshold: Any = 20.0) -> ops.Layer:
    return _made(ops.Softplus, beta, threshold)


def _clamp(x: Value, min: Any = None, max: Any = None) -> ops.Layer | None:  # noqa: A002  torch's names
    low, high = _end(min, -inf), _end(max, inf)
    return None if low is None and high is None else _made(ops.Clamp, low, high)


def _end(value: Any, infinite: float) -> Any:
    """None where there is no end."""
    return None if isinstance(value, float) and value == infinite else value


def _clamp_min(x: Value, min: Any) -> ops.Layer | None:  # noqa: A002
    return _clamp(x, min)


def _clamp_max(x: Value, max: Any) -> ops.Layer | None:  # noqa: A002
    return _clamp(x, None, max)


def _hardtanh(x: Value, min_val: Any = -1.0, max_val: Any = 1.0, inplace: bool = False) -> ops.Layer | None:
    return _clamp(x, min_val, max_val)


def _relu6(x: Value, inplace: bool = False) -> ops.Layer:
    return ops.Clamp(0.0, 6.0)


def _softmax(kind: Callable[[int], ops.Layer]) -> FunctionRule:
    def rule(x: Value, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> ops.Layer:
        if dim is None or dtype not in (None, x.tensor.dtype):
            raise Refusal(f"dim={dim}, dtype={dtype}", "say which axis, and keep the dtype")
        return kind(x.axis(dim))

    return rule


def _torch_softmax(kind: Callable[[int], ops.Layer]) -> FunctionRule:
    rule = _softmax(kind)
    return lambda x, dim, dtype=None: rule(x, dim, dtype=dtype)


def _names(name: str, *places: Any) -> tuple[Any, ...]:
    """A function under its name in torch, in torch.nn.functional, and as a method; in place too."""
    found = [getattr(place, n) for place in (torch, F) for n in (name, f"{name}_") if hasattr(place, n)]
    return (*found, *(n for n in (name, f"{name}_") if hasattr(torch.Tensor, n)), *places)


_RULES: tuple[tuple[tuple[Any, ...], FunctionRule], ...] = (
    *((_names(kind), _activation(kind)) for kind in ("relu", "sigmoid", "tanh", "erf", "sin", "cos", "softsign")),
    *((_names(kind), _activation(kind)) for kind in ("silu", "mish", "hardswish", "hardsigmoid", "logsigmoid")),
    ((*_names("abs", operator.abs), *_names("absolute"), "__abs__"), _activation("abs")),
    ((*_names("neg", operator.neg), *_names("negative"), "__neg__"), _activation("neg")),
    *((_names(kind), _elementary(kind)) for kind in ("exp", "expm1", "log", "log1p")),
    (_names("square"), _power(2.0)),
    (_names("sqrt"), _power(0.5)),
    (_names("rsqrt"), _power(-0.5)),
    (_names("reciprocal"), _power(-1.0)),
    ((*_names("pow", operator.pow, operator.ipow), "__pow__", "__ipow__"), _pow),
    (_names("gelu"), _gelu),
    (_names("leaky_relu"), _leaky_relu),
    (_names("prelu"), _prelu),
    (_names("elu"), _elu),
    (_names("celu"), _celu),
    (_names("selu"), _selu),
    (_names("relu6"), _relu6),
    (_names("hardtanh"), _hardtanh),
    (_names("softplus"), _softplus),
    ((*_names("clamp"), *_names("clip")), _clamp),
    (_names("clamp_min"), _clamp_min),
    (_names("clamp_max"), _clamp_max),
    ((F.softmax,), _softmax(ops.Softmax)),
    ((F.log_softmax,), _softmax(ops.LogSoftmax)),
    ((torch.softmax, "softmax"), _torch_softmax(ops.Softmax)),
    ((torch.log_softmax, "log_softmax"), _torch_softmax(ops.LogSoftmax)),
)

FUNCTIONS: dict[Any, FunctionRule] = {target: rule for targets, rule in _RULES for target in targets}
"""Function or name of a tensor method -> rule."""


def _module(rule: FunctionRule, *attributes: str) -> Converter:
    """The converter of a module whose function takes some of its attributes as numbers; it never looks at x."""

    def convert(module: nn.Module, features: Shape) -> Layers:
        return rule(None, *(getattr(module, name) for name in attributes))

    return convert


def prelu(module: nn.PReLU, features: Shape) -> ops.Layer:
    """nn.PReLU -> PReLU."""
    return ops.PReLU(array(module.weight))


def _softmax_module(kind: Callable[[int], ops.Layer]) -> Converter:
    def convert(module: nn.Softmax | nn.LogSoftmax, features: Shape) -> ops.Layer:
        """An axis counted from the front counts the batch."""
        if module.dim is None:
            raise Refusal("dim=None", "say which axis")
        axis = module.dim + len(features) if module.dim < 0 else module.dim - 1
        if not 0 <= axis < len(features):
            raise Refusal(f"works over axis {module.dim} of (B, {', '.join(map(str, features))})", "use dim=-1")
        return kind(axis)

    return convert


def _over_channels(module: nn.Softmax2d, features: Shape) -> ops.Layer:
    return ops.Softmax(0)


MODULES: dict[type[nn.Module], Converter] = {
    nn.ReLU: _module(_activation("relu")),
    nn.Sigmoid: _module(_activation("sigmoid")),
    nn.Tanh: _module(_activation("tanh")),
    nn.SiLU: _module(_activation("silu")),
    nn.Mish: _module(_activation("mish")),
    nn.Hardswish: _module(_activation("hardswish")),
    nn.Hardsigmoid: _module(_activation("hardsigmoid")),
    nn.Softsign: _module(_activation("softsign")),
    nn.LogSigmoid: _module(_activation("logsigmoid")),
    nn.GELU: _module(_gelu, "approximate"),
    nn.LeakyReLU: _module(_leaky_relu, "negative_slope"),
    nn.PReLU: prelu,
    nn.ELU: _module(_elu, "alpha"),
    nn.CELU: _module(_celu, "alpha"),
    nn.SELU: _module(_selu),
    nn.ReLU6: _module(_relu6),
    nn.Hardtanh: _module(_hardtanh, "min_val", "max_val"),
    nn.Softplus: _module(_softplus, "beta", "threshold"),
    nn.Softmax: _softmax_module(ops.Softmax),
    nn.LogSoftmax: _softmax_module(ops.LogSoftmax),
    nn.Softmax2d: _over_channels,
}
"""Type -> converter. Exact types: a subclass may compute something else."""

ANY_LAYOUT = tuple(kind for kind in MODULES if kind is not nn.Softmax2d)
"""Those that may be applied to (T, B, ...) directly. Where an axis was meant to count from there, the numbers differ
from the module's, and capture says so."""
