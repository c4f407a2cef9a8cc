"""FID between images and their reconstructions (rFID), over batches and processes."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor

from bigr.data.image_arrays import to_uint8
from bigr.metrics.features import FeatureNetwork
from bigr.metrics.frechet import frechet_distance
from bigr.metrics.moments import Moments


class ReconstructionFID:
    """Accumulates the statistics of both sides, and computes their Frechet distance.

    It uses the same features, statistics and distance as the FID of generated images.

    Args:
        network: usually ``load_network("inception", file)``.
    """

    def __init__(self, network: FeatureNetwork) -> None:
        self.network = network
        self.sides: list[Moments] = []

    def update(self, images: Tensor, reconstructions: Tensor) -> None:
        """Add a batch; both (B, 3, H, W) in [0, 1], rounded to uint8 as for published values."""
        self.network.to(images.device)
        pools = [self.network(to_uint8(side)).pool for side in (images, reconstructions)]
        self.sides = self.sides or [Moments(pool.shape[1], pool.device) for pool in pools]
        for moments, pool in zip(self.sides, pools, strict=True):
            moments.update(pool)

    def compute(self) -> float:
        """Return the distance over all images since the last :meth:`reset`.

        With several processes, each must call this method; the sums of all are used. Call it once
        before a reset.

        Raises:
            ValueError: if there are fewer than two images.
        """
        if not self.sides:
            raise ValueError("there are no images to compare.")
        if dist.is_available() and dist.is_initialized():
            for moments in self.sides:
                moments.reduce()
        first, second = self.sides
        return frechet_distance(first.mean, first.covariance, second.mean, second.covariance)

    def reset(self) -> None:
        """Discard the statistics of all images so far."""
        self.sides = []
