"""How a B-AE uses the bits of its codes: dead bits, entropy and correlation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

DEAD_BELOW = 0.01
"""A bit is dead if it is 1, or if it is 0, in less than this share of the tokens."""


class BitFigures(NamedTuple):
    """Usage of K bits over all tokens."""

    mean: Tensor
    """(K,) share of the tokens in which a bit is 1."""
    entropy: Tensor
    """(K,) binary entropy of ``mean``: 1 if a bit is set in half of the tokens."""
    dead: Tensor
    """Number of bits that are dead by :data:`DEAD_BELOW`."""
    correlation: Tensor
    """Mean absolute correlation of two different bits; constant bits count as uncorrelated."""
    max_correlation: Tensor
    """Largest absolute correlation; 1 if a bit repeats or negates another."""


class BitUsage(Metric):
    """Counts bits and pairs of bits over batches and processes.

    Args:
        code_dim: number of bits per token K.
    """

    full_state_update = False
    count: Tensor
    ones: Tensor
    both: Tensor

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        shapes = {"ones": (code_dim,), "both": (code_dim, code_dim), "count": ()}
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Add codes (B, K, h, w) of 0 and 1."""
        bits = codes.transpose(0, 1).flatten(1).float()
        self.count += bits.shape[1]
        self.ones += bits.sum(dim=1).long()  # exact for batches of up to 2^24 tokens
        self.both += (bits @ bits.T).long()

    def compute(self) -> BitFigures:
        """Return the usage of all codes so far; all values are 0 if there are none."""
        count = self.count.clamp_min(1).float()
        mean = self.ones / count
        probs = torch.stack([mean, 1 - mean])
        entropy = -torch.xlogy(probs, probs).sum(dim=0) / torch.log(torch.tensor(2.0))
        variance = mean * (1 - mean)
        covariance = self.both / count - torch.outer(mean, mean)
        scale = torch.outer(variance, variance).sqrt()
        correlation = torch.where(scale > 0, covariance / scale.clamp_min(1e-12), 0.0).abs()
        different = ~torch.eye(len(mean), dtype=torch.bool, device=mean.device)
        pairs = correlation[different] if len(mean) > 1 else correlation.new_zeros(1)
        dead = (torch.minimum(mean, 1 - mean) < DEAD_BELOW).sum()
        return BitFigures(mean, entropy, dead, pairs.mean(), pairs.max())
