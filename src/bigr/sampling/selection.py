"""Which masked tokens are decided next.

The score of a token is its confidence plus Gumbel noise; the noise is known before the token is
denoised, and a confidence is at most 1. So a token whose noise leaves it behind even with full
confidence needs no denoising at all: at the paper's settings that is most of them. The choice is
the same as with all of them denoised.

Shapes: B images, N tokens per image, M tokens of any images, K bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FIRST_SHARE = 1.25
"""Tokens denoised first, over those that will be decided; trained models rarely need more."""
MIN_TOKENS = 8
"""Fewer per image are not worth a pass of their own."""


def confidence(bit_probs: Tensor) -> Tensor:
    """mean_k |2 p_k - 1| of (M, K) probabilities: (M,) in [0, 1]."""
    return (2.0 * bit_probs - 1.0).abs().mean(dim=-1)


def first(scores: Tensor, is_candidate: Tensor, counts: Tensor) -> Tensor:
    """The ``counts`` (B,) candidates with the highest ``scores`` (B, N), as a (B, N) mask.

    Ties go to the lower index, so that the result doesn't depend on the device.
    """
    scores = scores.masked_fill(~is_candidate, float("-inf"))
    order = scores.argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1)
    return (ranks < counts[:, None]) & is_candidate


def most_confident(
    bit_probs: Callable[[Tensor], Tensor],
    head_start: Tensor | None,
    is_masked: Tensor,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    """Choose by confidence + ``head_start``, denoising no more tokens than that takes.

    Args:
        bit_probs: denoises tokens, (M,) indices into B*N to (M, K) probabilities.
        head_start: (B, N) what is added to the confidence, or None for nothing.
        is_masked: (B, N) bool, the candidates.
        counts: (B,) how many to choose.

    Returns:
        (B, N) bool, the chosen tokens, and (B*N, K) probabilities, filled in for those.
    """
    ahead = torch.zeros(is_masked.shape, device=counts.device) if head_start is None else head_start
    best = 1.0 + ahead  # with full confidence
    scores = torch.full_like(ahead, float("-inf"))
    probs: Tensor | None = None
    is_waiting = is_masked & (counts > 0)[:, None]
    is_candidate = is_waiting
    share = FIRST_SHARE if head_start is not None else float("inf")
    while True:
        sizes = (counts * share).clamp(MIN_TOKENS, is_masked.shape[1])
        is_next = first(ahead, is_candidate, sizes)
        tokens = is_next.flatten().nonzero().flatten()
        if not len(tokens):
            break
        denoised = bit_probs(tokens)
        if probs is None:
            probs = denoised.new_zeros(is_masked.numel(), denoised.shape[1])
        probs[tokens] = denoised
        scores.view(-1)[tokens] = ahead.flatten()[tokens] + confidence(denoised)
        is_waiting = is_waiting & ~is_next
        is_candidate = is_waiting & (best >= _last_chosen(scores, counts))
        share *= 2
    if probs is None:
        raise ValueError("counts are all zero: there is nothing to choose.")
    return first(scores, is_masked, counts), probs


def _last_chosen(scores: Tensor, counts: Tensor) -> Tensor:
    """Score of the last token that would be chosen now, (B, 1)."""
    ordered = scores.sort(dim=1, descending=True).values
    return ordered.gather(1, (counts - 1).clamp(min=0)[:, None])
