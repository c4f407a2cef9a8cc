"""Precision and recall against loops, and for extreme sets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bigr.metrics.manifold import density_coverage, precision_recall, squared_radii


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


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_against_loops(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    generated = 0.5 * torch.randn(30, 4, generator=generator)
    real = torch.randn(90, 4, generator=generator) * 1.5 + 0.4
    radii = brute_radii(real.tolist(), k)
    hits = [
        [math.dist(g, r) < radius for g in generated.tolist()]
        for r, radius in zip(real.tolist(), radii, strict=True)
    ]
    result = density_coverage(generated, real, k)
    assert result.density == pytest.approx(sum(map(sum, hits)) / (k * 30))
    assert result.coverage == sum(map(any, hits)) / 90
    assert 0.1 < result.coverage < 1
    assert result.density > 0.1


@pytest.mark.parametrize("k", [3, 5])
def test_against_prdc(k: int, capsys: pytest.CaptureFixture[str]) -> None:
    prdc = pytest.importorskip("prdc", reason="the package prdc is not installed")
    generated, real = cloud(4).double(), 1.2 * cloud(5).double() + 0.3
    theirs = prdc.compute_prdc(real.numpy(), generated.numpy(), nearest_k=k)
    ours = {
        **precision_recall(generated, real, k)._asdict(),
        **density_coverage(generated, real, k)._asdict(),
    }
    assert ours == pytest.approx(theirs, rel=1e-12)


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
    with pytest.raises(ValueError, match="k=5 nearest neighbours need more than 5 points, got 4"):
        density_coverage(cloud(0), cloud(1)[:4], 5)
