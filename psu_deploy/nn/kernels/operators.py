"""The fused operators as torch knows them: schema, shapes and gradients, apart from who computes them.

    psu_deploy::spiking_unit     V = leak(a) or a + bias_a,  E = V or leak(b) or b + bias_b,
                                 R = strict_leak(estimator(E)),  S = Theta(V - R - V_th)
    psu_deploy::lif              the loop of LIF and PLIF; `share` is 1/tau where it is learned, and None otherwise
    psu_deploy::exponentials     y[t] = sum_m z_m[t],  z_m[t] = decays[m] z_m[t-1] + gains[m] x[t]

and the gradient of each, `..._backward`. Sequences are (T, ...), float32, with any strides; results are contiguous.
A leak is `[gain, decay]`, or `[]` where there is none, and then there may be a bias per step, (T,). With
`surrogate="none"` the margin V - R - V_th comes back and not its sign, and is differentiated as it is.

A device is one `torch.library.impl(name, device, function, lib=LIBRARY)` for each of the six names in `OPERATORS`;
shapes, autograd, `torch.compile` and autocast are done here. Where a device or a dtype has none, and for a second
derivative, the reference runs: torch, step by step. What a kernel has to give is what `reference.py` gives: spikes to
the last bit (on a CPU), gradients but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from psu_deploy.nn.kernels import reference

LIBRARY = torch.library.Library("psu_deploy", "DEF")

_UNIT = (
    "Tensor a, Tensor? b, Tensor? bias_a, Tensor? bias_b, float[] leak_a, float[] leak_b, float[] reset, "
    "str estimator, Tensor? thresholds, float[] staircase, float threshold, str fire_on, str surrogate, float sharpness"
)
_LIF = (
    "Tensor x, Tensor? share, float tau, float threshold, bool hard, bool decay_input, bool detach_reset, "
    "str fire_on, str surrogate, float sharpness"
)
_EXPONENTIALS = "Tensor x, Tensor gains, Tensor decays"

_SCHEMAS = {
    "spiking_unit": (f"({_UNIT}) -> Tensor", f"(Tensor grad, {_UNIT}) -> (Tensor, Tensor)"),
    "lif": (f"({_LIF}) -> Tensor", f"(Tensor grad, {_LIF}) -> (Tensor, Tensor)"),
    "exponentials": (f"({_EXPONENTIALS}) -> Tensor", f"(Tensor grad, {_EXPONENTIALS}) -> (Tensor, Tensor, Tensor)"),
}

OPERATORS = tuple(f"psu_deploy::{name}{end}" for name in _SCHEMAS for end in ("", "_backward"))


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _like_the_sequence(x: Tensor, *_: Any) -> Tensor:
    return _like(x)


def _gradients_of_a_unit(grad: Tensor, a: Tensor, b: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    return _like(a), a.new_empty(0) if b is None else _like(b)


def _gradients_of_a_lif(grad: Tensor, x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _like(x), x.new_empty(())


def _gradients_of_exponentials(grad: Tensor, x: Tensor, gains: Tensor, decays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _like(x), _like(gains), _like(decays)


def _of_a_unit(found: tuple[Tensor, Tensor], needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Of a, b and the biases, which meet a and b where there is no leak."""
    sums = (g.flatten(1).sum(1) if n else None for g, n in zip(found, needed[2:4], strict=True))
    return found[0], found[1] if needed[1] else None, *sums


def _of_a_lif(found: tuple[Tensor, Tensor], needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    return found[0], found[1] if needed[1] else None


def _of_exponentials(found: tuple[Tensor, ...], needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    return found


class _Save:
    """What autograd keeps between the two passes: the tensors that came in, and nothing that was computed."""

    def __call__(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*(i if isinstance(i, Tensor) else None for i in inputs))
        ctx.rest = [None if isinstance(i, Tensor) else i for i in inputs]


def _define(name: str, forward: Callable[..., Any], shapes: Callable[..., Any], arrange: Callable[..., Any]) -> None:
    """An operator, its gradient, and what both are where nobody has anything faster."""
    schema, of_gradient = _SCHEMAS[name]
    full = f"psu_deploy::{name}"
    LIBRARY.define(name + schema)
    LIBRARY.define(f"{name}_backward{of_gradient}")
    operator = getattr(torch.ops.psu_deploy, f"{name}_backward").default

    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        saved = [kept if kept is not None else other for kept, other in zip(ctx.saved_tensors, ctx.rest, strict=True)]
        if torch.is_grad_enabled():  # somebody will differentiate this once more
            return reference.gradients(forward, saved, grad, ctx.needs_input_grad)
        found = arrange(operator(grad, *saved), ctx.needs_input_grad)
        return *found, *[None] * (len(saved) - len(found))

    LIBRARY.impl(name, forward, "CompositeExplicitAutograd")
    LIBRARY.impl(f"{name}_backward", reference.backward_of(forward, shapes), "CompositeExplicitAutograd")
    LIBRARY.impl(f"{name}_backward", torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(full, _like_the_sequence, lib=LIBRARY)
    torch.library.register_fake(f"{full}_backward", shapes, lib=LIBRARY)
    torch.library.register_autograd(full, backward, setup_context=_Save(), lib=LIBRARY)


_define("spiking_unit", reference.spiking_unit, _gradients_of_a_unit, _of_a_unit)
_define("lif", reference.lif, _gradients_of_a_lif, _of_a_lif)
_define("exponentials", reference.exponentials, _gradients_of_exponentials, _of_exponentials)
