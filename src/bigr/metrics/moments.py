"""Mean and covariance of features, accumulated batch by batch in float64.

Shapes: n points with D features.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Moments:
    """Sums from which the mean and the covariance of all points are computed.

    Args:
        dim: number of features D.
        device: device of the sums.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.total = torch.zeros(dim, dtype=torch.float64, device=device)
        self.products = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def update(self, features: Tensor) -> None:
        """Add the features (n, D) of n points."""
        x = features.to(self.total.device, torch.float64)
        self.count += len(x)
        self.total += x.sum(dim=0)
        self.products.addmm_(x.T, x)

    def reduce(self) -> None:
        """Add up the sums of all processes; every process must call this method."""
        count = self.total.new_tensor(self.count)
        for part in (count, self.total, self.products):
            dist.all_reduce(part)
        self.count = int(count)

    @property
    def mean(self) -> Tensor:
        """Mean (D,) float64; ``ValueError`` if there are no points."""
        if self.count == 0:
            raise ValueError("there are no features yet.")
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (D, D) float64; ``ValueError`` if there are fewer than 2 points."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.count}.")
        mean = self.mean
        covariance = self.products - self.count * torch.outer(mean, mean)
        return (covariance + covariance.T) / (2 * (self.count - 1))
