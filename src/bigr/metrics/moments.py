"""Mean and covariance of features, accumulated batch by batch in float64.

Shapes: n points with D features.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


class Moments:
    """Sums from which the mean and the covariance of all points are computed.

    The sums are those of the differences from a centre, which is the mean of the first batch.
    Otherwise, features that are far from zero would lose the digits in which they differ.

    Args:
        dim: number of features D.
        device: device of the sums.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.centre = torch.zeros(dim, dtype=torch.float64, device=device)
        self.total = torch.zeros_like(self.centre)
        self.products = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def update(self, features: Tensor) -> None:
        """Add the features (n, D) of n points."""
        x = features.to(self.total.device, torch.float64)
        if self.count == 0 and len(x):
            self.centre = x.mean(dim=0)
        x = x - self.centre
        self.count += len(x)
        self.total += x.sum(dim=0)
        self.products.addmm_(x.T, x)

    def reduce(self) -> None:
        """Add up the sums of all processes; every process must call this method."""
        # 1. All processes need the same centre: the mean of all points.
        count, centre = self.total.new_tensor(self.count), self.count * self.centre + self.total
        for part in (count, centre):
            dist.all_reduce(part)
        self._move_centre(centre / count.clamp_min(1))
        # 2. Then the sums can be added.
        for part in (self.total, self.products):
            dist.all_reduce(part)
        self.count = int(count)

    def _move_centre(self, centre: Tensor) -> None:
        """Change the sums into those of the differences from ``centre``."""
        shift = self.centre - centre
        cross = torch.outer(self.total, shift)
        self.products += cross + cross.T + self.count * torch.outer(shift, shift)
        self.total += self.count * shift
        self.centre = centre

    @property
    def mean(self) -> Tensor:
        """Mean (D,) float64; ``ValueError`` if there are no points."""
        if self.count == 0:
            raise ValueError("there are no features yet.")
        return self.centre + self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance (D, D) float64; ``ValueError`` if there are fewer than 2 points."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.count}.")
        covariance = self.products - torch.outer(self.total, self.total) / self.count
        return (covariance + covariance.T) / (2 * (self.count - 1))
