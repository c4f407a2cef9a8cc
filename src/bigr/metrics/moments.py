"""Mean and covariance of features, batch by batch in float64.

Shapes: n points of D features.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Streams means and covariances.

    Args:
        dim: D.
        device: where the sums are kept.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.total = torch.zeros(dim, dtype=torch.float64, device=device)
        self.products = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    @property
    def dim(self) -> int:
        """D."""
        return len(self.total)

    def update(self, features: Tensor) -> None:
        """Add ``features`` (n, D)."""
        x = features.to(self.total.device, torch.float64)
        self.count += len(x)
        self.total += x.sum(dim=0)
        self.products.addmm_(x.T, x)

    @property
    def mean(self) -> Tensor:
        """(D,) float64.

        Raises:
            ValueError: before the first update.
        """
        if self.count == 0:
            raise ValueError("there are no features yet.")
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """(D, D) float64, over n - 1.

        Raises:
            ValueError: of fewer than two points.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.count}.")
        mean = self.mean
        covariance = self.products - self.count * torch.outer(mean, mean)
        return (covariance + covariance.T) / (2 * (self.count - 1))
