"""The choice of the masked tokens to decide next, with as little denoising as possible.

With the confidence, a token's score is its confidence plus a head start that is known before the
token is denoised (Gumbel noise). A confidence is at most 1, so a token that would not be chosen
even with full confidence needs no denoising; at the paper's settings, most tokens do not. The
choice is the same as if all of them were denoised.

Shapes: B images, N tokens per image, M chosen tokens of any images, K bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FIRST_SHARE = 1.25
"""Number of tokens to denoise first, as a multiple of those to choose; few models need more."""
MIN_TOKENS = 8
"""Denoise at least this many tokens per image at a time."""

Denoise = Callable[[Tensor], Tensor]
"""Takes tokens, as indices (M,) into B*N, and returns their bit probabilities (M, K)."""


def confidence(bit_probs: Tensor) -> Tensor:
    """Return ``mean_k |2 p_k - 1|`` of (M, K) probabilities: (M,) in [0, 1]."""
    return (2.0 * bit_probs - 1.0).abs().mean(dim=-1)


def highest(scores: Tensor, is_candidate: Tensor, counts: Tensor) -> Tensor:
    """Return the ``counts`` (B,) candidates with the highest ``scores`` (B, N) as a (B, N) mask.

    Ties go to the lower index, so that the result does not depend on the device.
    """
    scores = scores.masked_fill(~is_candidate, float("-inf"))
    order = scores.argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1)
    return (ranks < counts[:, None]) & is_candidate


def select(
    denoise: Denoise,
    scores: Tensor | None,
    is_masked: Tensor,
    counts: list[int],
    *,
    uses_confidence: bool,
) -> tuple[Tensor, Tensor]:
    """Choose tokens and denoise them.

    Args:
        denoise: called with the tokens whose probabilities are needed.
        scores: (B, N) scores, or None for zeros.
        is_masked: (B, N) bool, the candidates.
        counts: how many tokens to choose in each image; not all zero.
        uses_confidence: whether the confidence is added to ``scores``.

    Returns:
        (M,) the chosen tokens in ascending order, and (M, K) their bit probabilities.
    """
    wanted = torch.tensor(counts, device=is_masked.device)
    head_start = torch.zeros_like(is_masked, dtype=torch.float32) if scores is None else scores
    probs: Tensor | None = None
    totals = torch.full_like(head_start, float("-inf")) if uses_confidence else head_start
    # Denoise tokens with a good head start first, until no other one can still get ahead.
    is_waiting = is_candidate = is_masked & (wanted > 0)[:, None]
    share = float("inf") if scores is None else FIRST_SHARE
    while uses_confidence:
        sizes = (wanted * share).clamp(MIN_TOKENS, is_masked.shape[1])
        is_next = highest(head_start, is_candidate, sizes)
        tokens = is_next.flatten().nonzero().flatten()
        if not len(tokens):
            break
        denoised = denoise(tokens)
        if probs is None:
            probs = denoised.new_zeros(is_masked.numel(), denoised.shape[1])
        probs[tokens] = denoised
        totals.view(-1)[tokens] = head_start.flatten()[tokens] + confidence(denoised)
        # A waiting token stays a candidate if full confidence would get it chosen.
        last_chosen = totals.sort(dim=1, descending=True).values.gather(
            1, (wanted - 1).clamp(min=0)[:, None]
        )
        is_waiting = is_waiting & ~is_next
        is_candidate = is_waiting & (1.0 + head_start >= last_chosen)
        share *= 2
    # Flat indices of the chosen tokens, without waiting for the device.
    is_chosen = highest(totals, is_masked, wanted).flatten()
    tokens = is_chosen.logical_not().argsort(stable=True)[: sum(counts)]
    return tokens, denoise(tokens) if probs is None else probs[tokens]
