"""Precision and recall against loops, and for extreme sets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bigr.metrics.manifold import precision_recall, squared_radii


def brute_radii(points: list[list[float]], k: int) -> list[float]:
    return [
        sorted(math.dist(p, q) for j, q in enumerate(points) if j != i)[k - 1]
        for i, p in enumerate(points)
    ]


def brute_share(queries: list[list[float]], points: list[list[float]], k: int) -> float:
    radii = brute_radii(points, k)
    inside = [
        any(math.dist(q, p) <= r for p, r in zip(points, radii, strict=True)) for q in queries
    ]
    return sum(inside) / len(queries)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_against_loops(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    generated = torch.randn(60, 4, generator=generator)
    real = torch.randn(45, 4, generator=generator) * 1.5 + 0.4
    result = precision_recall(generated, real, k)
    assert result.precision == brute_share(generated.tolist(), real.tolist(), k)
    assert result.recall == brute_share(real.tolist(), generated.tolist(), k)
    assert 0.1 < result.recall < result.precision <= 1
    assert squared_radii(real, k).sqrt().tolist() == pytest.approx(brute_radii(real.tolist(), k))


def cloud(seed: int, centre: float = 0.0) -> Tensor:
    return torch.randn(200, 3, generator=torch.Generator().manual_seed(seed)) + centre


def test_equal_far_and_collapsed_sets() -> None:
    assert precision_recall(cloud(0), cloud(0), 3) == (1.0, 1.0)
    assert precision_recall(cloud(0), cloud(1, 100.0), 3) == (0.0, 0.0)
    collapsed = cloud(2)[:1] + 1e-4 * cloud(3)
    result = precision_recall(collapsed, cloud(0), 3)
    assert result.precision == 1.0
    assert result.recall < 0.05


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="k=3 nearest neighbours need more than 3 points, got 3"):
        precision_recall(cloud(0)[:3], cloud(1), 3)
