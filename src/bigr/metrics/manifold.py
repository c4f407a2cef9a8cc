"""Precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

The first two are by Kynkaanniemi et al., NeurIPS 2019, the others by Naeem et al., ICML 2020. The
manifold of a set of points is the union of balls around them, each of which reaches to the k-th
nearest other point. Shapes: n and m points with D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from bigr.metrics.features import check_finite

QUERY_CHUNK = 1024


class PrecisionRecall(NamedTuple):
    """Precision and recall, each in [0, 1]."""

    precision: float
    """Share of the generated points inside the manifold of the real ones."""
    recall: float
    """Share of the real points inside the manifold of the generated ones."""


class DensityCoverage(NamedTuple):
    """Density, which is at least 0 and about 1 for equal distributions, and coverage in [0, 1]."""

    density: float
    """Number of balls of real points that contain a generated point, on average, divided by k."""
    coverage: float
    """Share of the balls of real points that contain a generated point."""


def squared_distances(queries: Tensor, points: Tensor) -> Iterator[Tensor]:
    """Yield ``|q - p|^2`` for one chunk of ``queries`` (m, D) after another: (chunk, n) float64.

    The points are centred and multiplied in float64, which makes matrix products accurate enough.
    """
    centre = points.double().mean(dim=0)
    points = points.double() - centre
    norms = points.square().sum(dim=1)
    for chunk in queries.split(QUERY_CHUNK):
        chunk = chunk.to(points) - centre
        distances = torch.addmm(norms, chunk, points.T, alpha=-2.0)
        yield distances.add_(chunk.square().sum(dim=1, keepdim=True)).clamp_min_(0)


def squared_radii(points: Tensor, k: int) -> Tensor:
    """Return the squared distances (n,) of ``points`` (n, D) to their ``k``-th nearest others.

    Raises:
        ValueError: if there are at most ``k`` points.
    """
    if len(points) <= k:
        raise ValueError(f"k={k} nearest neighbours need more than {k} points, got {len(points)}.")
    radii, start = [], 0
    for distances in squared_distances(points, points):
        rows = torch.arange(len(distances), device=distances.device)
        distances[rows, rows + start] = -1.0  # each point is its own nearest one
        radii.append(distances.kthvalue(k + 1, dim=1).values)
        start += len(distances)
    return torch.cat(radii)


def share_inside(queries: Tensor, points: Tensor, radii: Tensor) -> float:
    """Return the share of ``queries`` (m, D) in balls around ``points`` with squared ``radii``."""
    hits = [(d <= radii).any(dim=1).sum() for d in squared_distances(queries, points)]
    return float(torch.stack(hits).sum()) / len(queries)


def precision_recall(generated: Tensor, real: Tensor, k: int = 3) -> PrecisionRecall:
    """Compute precision and recall on the device of the features.

    Args:
        generated: (n, D) features.
        real: (m, D) features.
        k: the neighbour that sets the radius of a ball, 3 in the paper.

    Raises:
        ValueError: if a side has at most ``k`` points, or a feature is not finite.
    """
    check_finite(generated, "the generated features")
    check_finite(real, "the real features")
    return PrecisionRecall(
        precision=share_inside(generated, real, squared_radii(real, k)),
        recall=share_inside(real, generated, squared_radii(generated, k)),
    )


def density_coverage(generated: Tensor, real: Tensor, k: int = 5) -> DensityCoverage:
    """Compute density and coverage on the device of the features, as the package ``prdc`` does.

    Args:
        generated: (n, D) features.
        real: (m, D) features.
        k: the neighbour that sets the radius of a ball, 5 in the paper.

    Raises:
        ValueError: if there are at most ``k`` real points, or a feature is not finite.
    """
    check_finite(generated, "the generated features")
    check_finite(real, "the real features")
    radii = squared_radii(real, k)
    counts = [
        (distances < radius[:, None]).sum(dim=1)
        for distances, radius in zip(
            squared_distances(real, generated), radii.split(QUERY_CHUNK), strict=True
        )
    ]
    inside = torch.cat(counts)
    return DensityCoverage(
        density=float(inside.sum()) / (k * len(generated)),
        coverage=float((inside > 0).sum()) / len(real),
    )
