"""All figures of generated images against a reference, from streamed features.

Shapes: n generated images, m of the reference, D pool features, S spatial ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bigr.metrics.feature_networks import Features
from bigr.metrics.frechet import frechet_distance
from bigr.metrics.inception_score import SPLIT_SIZE, InceptionScore
from bigr.metrics.kernel import kernel_distance
from bigr.metrics.manifold import precision_recall
from bigr.metrics.moments import Moments

NUM_NEIGHBOURS = 3
FEWEST = 50
"""Images whose FID is worth showing beside that of all."""
SHOWN_SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of the images, for how FID falls with their number."""


class FeatureStatistics:
    """What the figures need to know of a set of images.

    Args:
        split_size: images per split of the Inception Score.
        keeps_points: keep the pool features for precision, recall and KID (float32).
        device: where the float64 sums are kept.
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
        """n."""
        return 0 if self.pool is None else self.pool.count

    @property
    def points(self) -> Tensor:
        """(n, D) float32 on the CPU."""
        return torch.cat(self._points)

    def update(self, features: Features) -> None:
        """Add the next images."""
        if self.pool is None:
            self.pool = Moments(features.pool.shape[1], self.device)
            if features.spatial is not None:
                self.spatial = Moments(features.spatial.shape[1], self.device)
        self.pool.update(features.pool)
        if self.spatial is not None and features.spatial is not None:
            self.spatial.update(features.spatial)
        self.score.update(features.logits)
        if self.keeps_points:
            self._points.append(features.pool.detach().float().cpu())


@dataclass(frozen=True)
class Reference:
    """Statistics of real images."""

    mean: Tensor
    """(D,)."""
    covariance: Tensor
    """(D, D)."""
    spatial_mean: Tensor | None = None
    """(S,)."""
    spatial_covariance: Tensor | None = None
    """(S, S)."""
    points: Tensor | None = None
    """(m, D) pool features of some of them."""
    identity: dict[str, Any] = field(default_factory=dict)
    """network, image_size, count, source: as far as they are known."""


def compare(
    generated: FeatureStatistics,
    reference: Reference,
    *,
    with_manifold: bool = True,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Figures by name: fid, sfid, is, precision, recall, kid, as far as there is data for them.

    Args:
        generated: of the generated images.
        reference: of real ones.
        with_manifold: precision, recall and KID, too.
        device: that computes them.

    Raises:
        ValueError: if the reference has another number of features.
    """
    pool, spatial = generated.pool, generated.spatial
    if pool is None:
        raise ValueError("there are no generated images to compare.")
    figures = {"fid": _frechet(pool, reference.mean, reference.covariance, device)}
    if (
        spatial is not None
        and reference.spatial_mean is not None
        and reference.spatial_covariance is not None
    ):
        figures["sfid"] = _frechet(
            spatial, reference.spatial_mean, reference.spatial_covariance, device
        )
    figures["is"] = generated.score.compute()
    points = reference.points
    if with_manifold and points is not None:
        if min(len(generated.points), len(points)) > NUM_NEIGHBOURS:
            ours = generated.points.to(device)
            manifold = precision_recall(ours, points.to(device), NUM_NEIGHBOURS)
            figures["precision"], figures["recall"] = manifold
        figures["kid"] = kernel_distance(generated.points, points)
    return figures


def frechet_by_count(
    points: Tensor, reference: Reference, device: torch.device | str = "cpu"
) -> dict[int, float]:
    """FID of the first n/8, n/4 and n/2 of ``points`` (n, D): how much of it is their number."""
    found = {}
    for share in SHOWN_SHARES:
        first = points[: int(len(points) * share)]
        if len(first) >= FEWEST:
            moments = Moments(points.shape[1], device)
            moments.update(first)
            found[len(first)] = _frechet(moments, reference.mean, reference.covariance, device)
    return found


def _frechet(
    moments: Moments, mean: Tensor, covariance: Tensor, device: torch.device | str
) -> float:
    parts = (moments.mean, moments.covariance, mean, covariance)
    return frechet_distance(*(part.to(device, torch.float64) for part in parts))
