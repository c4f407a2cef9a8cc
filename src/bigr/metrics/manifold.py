"""Improved precision and recall (Kynkaanniemi et al., NeurIPS 2019, arXiv 1904.06991).

Shapes: n and m points of D features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

QUERY_CHUNK = 1024


class PrecisionRecall(NamedTuple):
    """Both in [0, 1]."""

    precision: float
    """Share of generated points inside the real manifold."""
    recall: float
    """Share of real points inside the generated manifold."""


def nearest_radii(points: Tensor, k: int) -> Tensor:
    """Distance of each of ``points`` (n, D) to its ``k``-th nearest other point, (n,) float64."""
    if len(points) <= k:
        raise ValueError(f"k={k} nearest neighbours need more than {k} points, got {len(points)}.")
    points = points.double()
    radii = [
        torch.cdist(chunk, points, compute_mode="donot_use_mm_for_euclid_dist")
        .kthvalue(k + 1, dim=1)  # the nearest is the point itself
        .values
        for chunk in points.split(QUERY_CHUNK)
    ]
    return torch.cat(radii)


def share_inside(queries: Tensor, points: Tensor, radii: Tensor) -> float:
    """Share of ``queries`` (m, D) within ``radii`` (n,) of at least one of ``points`` (n, D)."""
    points = points.double()
    hits = [
        (torch.cdist(chunk, points, compute_mode="donot_use_mm_for_euclid_dist") <= radii)
        .any(dim=1)
        .sum()
        for chunk in queries.double().split(QUERY_CHUNK)
    ]
    return float(torch.stack(hits).sum()) / len(queries)


def precision_recall(generated: Tensor, real: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall with ``k`` neighbours.

    Args:
        generated: (n, D) features.
        real: (m, D) features.
        k: neighbour that sets a point's radius; the paper's is 3.

    Raises:
        ValueError: if either set has at most ``k`` points.
    """
    return PrecisionRecall(
        precision=share_inside(generated, real, nearest_radii(real, k)),
        recall=share_inside(real, generated, nearest_radii(generated, k)),
    )
