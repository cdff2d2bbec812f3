"""Weights of 8 bits while training: rounded on the way forward, as they are on the way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from psu_deploy.nn.transformable import TransformableFunction

LARGEST = 127
"""The largest whole number of a weight; -128 is left out, so that the scale is the same on both sides of 0."""


class Int8Weight(nn.Module):
    """A parametrization of a weight, for `torch.nn.utils.parametrize`: 255 levels per output channel.

        s[c] = max |W[c]| / 127            1 where the whole channel is 0
        W_q[c] = s[c] clamp(rint(W[c] / s[c]), -127, 127)
        dL/dW = dL/dW_q                    straight-through: the scale counts as a constant

    Every channel, that is every index of the first axis, has a scale of its own, because a BatchNorm behind the layer
    scales channels too: after it is folded in, `rint(W'[c] / (max |W'[c]| / 127))` are the very same whole numbers, up
    to their sign. A target with one scale per layer rounds once more, and so does a pooling that is folded in. Half
    precision is rounded from float32; its 8 or 11 bits hold the product only roughly.

    It learns nothing; a state_dict holds the weight itself, with all its bits, as `parametrizations.weight.original`.

    >>> Int8Weight()(torch.tensor([[127.0, 0.6, -0.4], [0.0, 0.0, 0.0]]))
    tensor([[127.,   1.,  -0.],
            [  0.,   0.,   0.]])
    """

    def forward(self, weight: Tensor) -> Tensor:
        quantised: Tensor = _Int8Weight.apply(weight)
        return quantised


class _Int8Weight(TransformableFunction):
    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor) -> Tensor:
        wide = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
        scale = wide.abs().amax(tuple(range(1, wide.ndim)), keepdim=True) / LARGEST
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        return (scale * (wide / scale).round().clamp(-LARGEST, LARGEST)).to(weight.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """A gradient passes as it is."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004  torch's signature
        return grads[0]
