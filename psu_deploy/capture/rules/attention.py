"""Attention as the few simpler calls that it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from psu_deploy.errors import Refusal


def dot_product(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **kwargs: Any,
) -> Tensor:
    """softmax(q k^T scale) v."""
    if attn_mask is not None or is_causal or dropout_p or any(kwargs.values()):
        raise Refusal("masks its attention", "attend to all tokens of a step")
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    weights: Tensor = ((query @ key.transpose(-2, -1)) * factor).softmax(-1)
    return weights @ value


def multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What `nn.MultiheadAttention` computes, of (tokens, N, features)."""
    extras = (bias_k, bias_v, static_k, static_v, key_padding_mask, attn_mask)
    if any(one is not None for one in extras) or add_zero_attn or is_causal or (training and dropout_p):
        raise Refusal("masks its attention, or adds to its keys", "attend to all tokens of a step, as they are")
    weights: tuple[Tensor | None, ...] = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight:
        assert in_proj_weight is not None, "torch has refused this before"
        weights = in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    rows, samples, width = query.shape
    size = width // num_heads

    def heads(x: Tensor, weight: Any, bias: Any) -> Tensor:
        return F.linear(x, weight, bias).reshape(x.shape[0], samples * num_heads, size).transpose(0, 1)

    q, k, v = map(heads, (query, key, value), weights, biases)
    scores = ((q * (1 / math.sqrt(size))) @ k.transpose(1, 2)).softmax(-1)
    mixed = (scores @ v).transpose(0, 1).reshape(rows, samples, width)
    result = F.linear(mixed, out_proj_weight, out_proj_bias)
    if not need_weights:
        return result, None
    shown = scores.reshape(samples, num_heads, rows, key.shape[0])
    return result, shown.mean(1) if average_attn_weights else shown


ATTENTION: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": dot_product,
    "multi_head_attention_forward": multi_head,
}
"""Name -> what it is made of."""
