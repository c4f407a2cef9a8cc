"""Improved precision and recall (Kynkaanniemi et al., NeurIPS 2019, arXiv 1904.06991).

Shapes: n and m points of D features.
"""

from __future__ import annotations

from collections.abc import Iterator
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


def squared_distances(queries: Tensor, points: Tensor) -> Iterator[Tensor]:
    """|q - p|^2 for chunk after chunk of ``queries`` (m, D): (chunk, n) float64.

    Both are centred first, and products are taken in float64: matrix products, exact enough.
    """
    centre = points.double().mean(dim=0)
    points = points.double() - centre
    norms = points.square().sum(dim=1)
    for chunk in queries.split(QUERY_CHUNK):
        chunk = chunk.to(points) - centre
        distances = torch.addmm(norms, chunk, points.T, alpha=-2.0)
        yield distances.add_(chunk.square().sum(dim=1, keepdim=True)).clamp_min_(0)


def squared_radii(points: Tensor, k: int) -> Tensor:
    """Squared distance of each of ``points`` (n, D) to its ``k``-th nearest other point, (n,)."""
    if len(points) <= k:
        raise ValueError(f"k={k} nearest neighbours need more than {k} points, got {len(points)}.")
    radii, start = [], 0
    for distances in squared_distances(points, points):
        rows = torch.arange(len(distances), device=distances.device)
        distances[rows, rows + start] = -1.0  # the point itself comes first
        radii.append(distances.kthvalue(k + 1, dim=1).values)
        start += len(distances)
    return torch.cat(radii)


def share_inside(queries: Tensor, points: Tensor, radii: Tensor) -> float:
    """Share of ``queries`` (m, D) within the squared ``radii`` (n,) of one of ``points`` (n, D)."""
    hits = [(d <= radii).any(dim=1).sum() for d in squared_distances(queries, points)]
    return float(torch.stack(hits).sum()) / len(queries)


def precision_recall(generated: Tensor, real: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall with ``k`` neighbours, on the device of the features.

    Args:
        generated: (n, D) features.
        real: (m, D) features.
        k: neighbour that sets a point's radius; the paper's is 3.

    Raises:
        ValueError: if either set has at most ``k`` points.
    """
    return PrecisionRecall(
        precision=share_inside(generated, real, squared_radii(real, k)),
        recall=share_inside(real, generated, squared_radii(generated, k)),
    )
