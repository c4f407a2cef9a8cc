"""Scaled dot-product attention, with the fastest implementation for each device and type.

Shapes: B batch, H heads, Q queries, K keys, C width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bigr.models.cpu import cpu_supports

WEIGHTS_PER_PART = 2**20
"""Attention weights (heads, Q, K) that are computed at once; 2 MB, which fit into a CPU's cache."""
MAX_TRAINING_KEYS = 512
"""Training with more keys uses the fused attention, which keeps no attention weights."""
HAS_MATRIX_UNIT = cpu_supports("amx_bf16")
"""Whether the processor has AMX, which PyTorch's fused attention in bfloat16 uses."""


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool = False, is_fused: bool = False
) -> Tensor:
    """Compute softmax(query key^T / sqrt(C)) value.

    In bfloat16 on a CPU, it is computed with two matrix products and a softmax where these are
    faster than PyTorch's fused attention, whose backward pass takes 5 to 10 times as long for heads
    of width 32. Without gradients, this only holds for processors without AMX. In float32, the
    fused attention is as fast or faster, and more exact.

    Args:
        query: (B, H, Q, C).
        key: (B, H, K, C).
        value: (B, H, K, C).
        is_causal: whether query i only attends to the keys 0 to i. Then Q must be K.
        is_fused: use PyTorch's fused attention in any case.

    Returns:
        (B, H, Q, C).
    """
    is_bfloat16 = query.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    # Training keeps the weights for the backward pass.
    is_trained = torch.is_grad_enabled() and query.requires_grad
    is_fused_better = key.shape[2] > MAX_TRAINING_KEYS if is_trained else HAS_MATRIX_UNIT
    if is_fused or query.device.type != "cpu" or not is_bfloat16 or is_fused_better:
        # Without a tensor as mask, flash attention can be used.
        return F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
    # The weights of a few heads at a time, without autocast, which would make them float32.
    heads = max(1, WEIGHTS_PER_PART // (query.shape[2] * key.shape[2]))
    inputs = [one.to(torch.bfloat16).flatten(0, 1).split(heads) for one in (query, key, value)]
    mixed = []
    with torch.autocast("cpu", enabled=False):
        for queries, keys, values in zip(*inputs, strict=True):
            scores = (queries * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
            if is_causal:
                seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
                scores = scores.masked_fill(~seen, -torch.inf)
            mixed.append(scores.softmax(-1) @ values)
    whole = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
    return whole.unflatten(0, query.shape[:2])
