"""Scaled dot-product attention, with the faster of two ways to compute it.

Shapes: B batch, H heads, Q queries, K keys, C width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_MULTIPLIED_KEYS = 512
"""With more keys, the (B, H, Q, K) weights would take too much memory."""


def multiplies_weights(query: Tensor, keys: int) -> bool:
    """Tell whether :func:`attend` computes the attention weights as a tensor.

    PyTorch's fused attention for CPUs is slow in the backward pass in bfloat16: for heads of 32
    values, it takes 5 to 10 times as long as two matrix products and a softmax. In float32 and
    without a backward pass the fused one is as fast or faster, and it needs less memory.
    """
    if query.device.type != "cpu" or not (torch.is_grad_enabled() and query.requires_grad):
        return False
    in_bfloat16 = query.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    return in_bfloat16 and keys <= MAX_MULTIPLIED_KEYS


def attend(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool = False) -> Tensor:
    """Compute softmax(query key^T / sqrt(C)) value.

    Args:
        query: (B, H, Q, C).
        key: (B, H, K, C).
        value: (B, H, K, C).
        is_causal: whether query i only attends to the keys 0 to i. Then Q must be K.

    Returns:
        (B, H, Q, C).
    """
    if not multiplies_weights(query, key.shape[2]):
        # Without a tensor as mask, flash attention can be used.
        return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    weights = scores.softmax(dim=-1, dtype=torch.float32)
    return weights.to(scores.dtype) @ value
