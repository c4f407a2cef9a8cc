"""How the bits of a code are used: dead ones, entropy, correlation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

DEAD_BELOW = 0.01
"""A bit is dead if it is 1, or 0, in less than this share of the tokens."""


class BitFigures(NamedTuple):
    """Usage of K bits over all tokens seen."""

    mean: Tensor
    """(K,) share of ones."""
    entropy: Tensor
    """(K,) of that share, in bits: 1 is a bit that is 1 half of the time."""
    dead: Tensor
    """Number of dead bits."""
    correlation: Tensor
    """Mean absolute correlation of two different bits; dead ones count as uncorrelated."""
    max_correlation: Tensor
    """The largest of them: 1 means that one bit repeats another."""


class BitUsage(Metric):
    """Accumulates over batches and processes.

    Args:
        code_dim: K.
    """

    full_state_update = False
    count: Tensor
    ones: Tensor
    both: Tensor

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        zeros = {"ones": (code_dim,), "both": (code_dim, code_dim), "count": ()}
        for name, shape in zeros.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Add codes (B, K, h, w) of 0/1."""
        bits = codes.transpose(0, 1).flatten(1).float()
        self.count += bits.shape[1]
        self.ones += bits.sum(dim=1).long()  # exact, up to 2^24 tokens at a time
        self.both += (bits @ bits.T).long()

    def compute(self) -> BitFigures:
        """The figures; all zeros before the first update."""
        count = self.count.clamp_min(1).float()
        mean = self.ones / count
        probs = torch.stack([mean, 1 - mean])
        entropy = -torch.xlogy(probs, probs).sum(dim=0) / torch.log(torch.tensor(2.0))
        variance = mean * (1 - mean)
        covariance = self.both / count - torch.outer(mean, mean)
        scale = torch.outer(variance, variance).sqrt()
        correlation = torch.where(scale > 0, covariance / scale.clamp_min(1e-12), 0.0).abs()
        different = ~torch.eye(len(mean), dtype=torch.bool, device=mean.device)
        return BitFigures(
            mean,
            entropy,
            (torch.minimum(mean, 1 - mean) < DEAD_BELOW).sum(),
            correlation[different].mean() if len(mean) > 1 else correlation.new_zeros(()),
            correlation[different].max() if len(mean) > 1 else correlation.new_zeros(()),
        )
