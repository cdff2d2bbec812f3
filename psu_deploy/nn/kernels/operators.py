"""The fused operators as torch knows them: schema, shapes and gradients, apart from who computes them.

    psu_deploy::spiking_unit     V = leak(a) or a + bias_a,  E = V or leak(b) or b + bias_b,
                                 R = strict_leak(estimator(E)),  S = Theta(V - R - V_th);  estimator "none": R = 0
    psu_deploy::lif              the loop of LIF and PLIF; `share` is 1/tau where it is learned, and None otherwise
    psu_deploy::exponentials     y[t] = sum_m z_m[t],  z_m[t] = decays[m] z_m[t-1] + gains[m] x[t]

and the gradient of each, `..._backward`. Sequences are (T, ...), float32, with any strides; results are contiguous.
A leak is `[gain, decay]`, or `[]` where there is none, and then there may be a bias per step, (T,). With
`surrogate="none"` the margin V - R - V_th comes back and not its sign, and is differentiated as it is.

A device is one `OPERATOR.implement(device, forward, backward)` for each of the three; shapes, autograd, `torch.compile`
and autocast are done here. Where a device or a dtype has none, and for a second derivative, the reference runs: torch,
step by step. What a kernel has to give is what `reference.py` gives: spikes to the last bit (on a CPU), gradients but
for rounding. `backward` gets the gradient of the result and then what `forward` got.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from psu_deploy.nn.kernels import reference
from psu_deploy.nn.kernels.operator import Operator, contiguous_like

_UNIT = (
    "Tensor a, Tensor? b, Tensor? bias_a, Tensor? bias_b, float[] leak_a, float[] leak_b, float[] reset, "
    "str estimator, Tensor? thresholds, float[] staircase, float threshold, str fire_on, str surrogate, float sharpness"
)
_LIF = (
    "Tensor x, Tensor? share, float tau, float threshold, bool hard, bool decay_input, bool detach_reset, "
    "str fire_on, str surrogate, float sharpness"
)
_EXPONENTIALS = "Tensor x, Tensor gains, Tensor decays"


def _gradients_of_a_unit(grad: Tensor, a: Tensor, b: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    return contiguous_like(a), a.new_empty(0) if b is None else contiguous_like(b)


def _gradients_of_a_lif(grad: Tensor, x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return contiguous_like(x), x.new_empty(())


def _gradients_of_exponentials(grad: Tensor, x: Tensor, gains: Tensor, decays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return contiguous_like(x), contiguous_like(gains), contiguous_like(decays)


def _of_a_unit(found: tuple[Tensor, Tensor], needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Of a, b and the biases, which meet a and b where there is no leak."""
    sums = (g.flatten(1).sum(1) if n else None for g, n in zip(found, needed[2:4], strict=True))
    return found[0], found[1] if needed[1] else None, *sums


def _of_a_lif(found: tuple[Tensor, Tensor], needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    return found[0], found[1] if needed[1] else None


def _of_exponentials(found: tuple[Tensor, ...], needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    return found


spiking_unit = Operator("spiking_unit", _UNIT, 2, reference.spiking_unit, _gradients_of_a_unit, _of_a_unit)
lif = Operator("lif", _LIF, 2, reference.lif, _gradients_of_a_lif, _of_a_lif)
exponentials = Operator(
    "exponentials", _EXPONENTIALS, 3, reference.exponentials, _gradients_of_exponentials, _of_exponentials
)
