"""All metrics of generated images against a reference, computed from streamed features.

Shapes: n generated images, m reference images, D pool features, S spatial features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bigr.metrics.features import Features
from bigr.metrics.frechet import frechet_distance
from bigr.metrics.inception_score import SPLIT_SIZE, InceptionScore
from bigr.metrics.kernel import kernel_distance
from bigr.metrics.manifold import density_coverage, precision_recall
from bigr.metrics.moments import Moments

NUM_NEIGHBOURS = 3
"""The k of precision and recall, as in ADM's evaluation suite."""
NUM_DENSITY_NEIGHBOURS = 5
"""The k of density and coverage, as in their paper."""
MIN_SUBSET = 50
"""Smallest number of images for which :func:`frechet_by_count` computes FID."""
SUBSET_SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Shares of the images for which :func:`frechet_by_count` computes FID."""


class FeatureStatistics:
    """Accumulates the statistics of a set of images that the metrics need.

    Args:
        split_size: images per split of the Inception Score.
        keeps_points: whether to keep the pool features, for precision, recall and KID.
        device: device of the float64 sums.
    """

    def __init__(
        self,
        *,
        split_size: int = SPLIT_SIZE,
        keeps_points: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.score = InceptionScore(split_size)
        self.keeps_points = keeps_points
        self.device = device
        self.pool: Moments | None = None
        self.spatial: Moments | None = None
        self._points: list[Tensor] = []

    @property
    def count(self) -> int:
        """Number of images so far."""
        return 0 if self.pool is None else self.pool.count

    @property
    def points(self) -> Tensor:
        """Pool features (n, D) float32 on the CPU, if they are kept."""
        return torch.cat(self._points)

    def update(self, features: Features) -> None:
        """Add the features of the next images."""
        if self.pool is None:
            self.pool = Moments(features.pool.shape[1], self.device)
            if features.spatial is not None:
                self.spatial = Moments(features.spatial.shape[1], self.device)
        self.pool.update(features.pool)
        if self.spatial is not None and features.spatial is not None:
            self.spatial.update(features.spatial)
        if features.logits is not None:
            self.score.update(features.logits)
        if self.keeps_points:
            self._points.append(features.pool.detach().float().cpu())


@dataclass(frozen=True)
class Reference:
    """Statistics of the real images that generated images are compared with."""

    mean: Tensor
    """(D,) mean of the pool features."""
    covariance: Tensor
    """(D, D) covariance of the pool features."""
    spatial_mean: Tensor | None = None
    """(S,) mean of the spatial features."""
    spatial_covariance: Tensor | None = None
    """(S, S) covariance of the spatial features."""
    points: Tensor | None = None
    """(m, D) pool features of some of the images."""
    identity: dict[str, Any] = field(default_factory=dict)
    """The known ones of network, image_size, count and source."""


def compare(
    generated: FeatureStatistics,
    reference: Reference,
    *,
    with_manifold: bool = True,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Compute all metrics for which there is enough data.

    Args:
        generated: statistics of the generated images.
        reference: statistics of real images.
        with_manifold: whether to compute precision, recall, density, coverage and KID.
        device: device of the computation.

    Returns:
        Values by name: fid, sfid, is, precision, recall, density, coverage, kid, in this order.

    Raises:
        ValueError: if there are no images, or the reference has another number of features.
    """
    pool, spatial = generated.pool, generated.spatial
    if pool is None:
        raise ValueError("there are no generated images to compare.")
    metrics = {"fid": _frechet(pool, reference.mean, reference.covariance, device)}
    mean, covariance = reference.spatial_mean, reference.spatial_covariance
    if spatial is not None and mean is not None and covariance is not None:
        metrics["sfid"] = _frechet(spatial, mean, covariance, device)
    if generated.score.count:
        metrics["is"] = generated.score.compute()
    points = reference.points
    if with_manifold and points is not None:
        sides = generated.points.to(device), points.to(device)
        if min(map(len, sides)) > NUM_NEIGHBOURS:
            metrics["precision"], metrics["recall"] = precision_recall(*sides, NUM_NEIGHBOURS)
        if len(points) > NUM_DENSITY_NEIGHBOURS:
            metrics["density"], metrics["coverage"] = density_coverage(
                *sides, NUM_DENSITY_NEIGHBOURS
            )
        metrics["kid"] = kernel_distance(generated.points, points)
    return metrics


def frechet_by_count(
    points: Tensor, reference: Reference, device: torch.device | str = "cpu"
) -> dict[int, float]:
    """Compute FID for n/8, n/4 and n/2 random images, to show how much it depends on n.

    The choice is always the same. The first images would not be representative, because folders are
    often sorted by class.

    Args:
        points: (n, D) pool features.
        reference: statistics of real images.
        device: device of the computation.

    Returns:
        FID by number of images, without numbers below 50.
    """
    found = {}
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    for share in SUBSET_SHARES:
        part = points[order[: int(len(points) * share)]]
        if len(part) >= MIN_SUBSET:
            moments = Moments(points.shape[1], device)
            moments.update(part)
            found[len(part)] = _frechet(moments, reference.mean, reference.covariance, device)
    return found


def _frechet(
    moments: Moments, mean: Tensor, covariance: Tensor, device: torch.device | str
) -> float:
    parts = (moments.mean, moments.covariance, mean, covariance)
    return frechet_distance(*(part.to(device, torch.float64) for part in parts))
