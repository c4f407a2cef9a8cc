"""Inception Score (Salimans et al., NeurIPS 2016, arXiv 1606.03498) in the splits of ADM."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bigr.metrics.features import check_finite

SPLIT_SIZE = 5000
"""Number of images per split in ADM's evaluation suite."""


class InceptionScore:
    """Computes exp(E[KL(p(y|x) || p(y))]) for splits of consecutive images, in float64.

    Args:
        split_size: images per split; the last split may be smaller.
    """

    def __init__(self, split_size: int = SPLIT_SIZE) -> None:
        self.split_size = split_size
        self.count = 0
        self._splits: list[tuple[int, float, Tensor]] = []
        """For each split: number of images, sum of p log p, and sum of p, (C,)."""

    def update(self, logits: Tensor) -> None:
        """Add the next n images.

        Args:
            logits: (n, C), without the bias of the network.

        Raises:
            ValueError: if a logit is not finite.
        """
        check_finite(logits, "the logits")
        logits = logits.double().cpu()
        while len(logits):
            room = self.split_size - self.count % self.split_size
            chunk, logits = logits[:room], logits[room:]
            if room == self.split_size:
                self._splits.append((0, 0.0, torch.zeros(chunk.shape[1], dtype=torch.float64)))
            count, entropy, probs = self._splits[-1]
            p = chunk.softmax(dim=1)
            entropy += float((p * chunk.log_softmax(dim=1)).sum())
            self._splits[-1] = (count + len(chunk), entropy, probs + p.sum(dim=0))
            self.count += len(chunk)

    def compute(self) -> float:
        """Return the mean over all splits, between 1 and C; ``ValueError`` without images."""
        if not self._splits:
            raise ValueError("there are no images yet.")
        scores = []
        for count, entropy, probs in self._splits:
            marginal = probs / count
            divergence = entropy / count - float(torch.xlogy(marginal, marginal).sum())
            scores.append(math.exp(divergence))
        return sum(scores) / len(scores)
