"""Weights of the bits in the training loss of the transcoder."""

from __future__ import annotations

from torch import Tensor


def balanced_weight(target: Tensor) -> Tensor:
    """Compute alpha = (1 - w) y + w (1 - y) + 1/K, where w is the mean of y over a token's bits.

    The rarer of the two values within a token gets the larger weight (wBCE in the paper).

    Args:
        target: (M, K) bits y of M tokens.

    Returns:
        (M, K) weights.
    """
    share = target.mean(dim=-1, keepdim=True)
    return (1.0 - share) * target + share * (1.0 - target) + 1.0 / target.shape[-1]
