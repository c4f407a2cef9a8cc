"""FID, sFID, IS, KID, precision and recall against other libraries and plain float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch import Tensor
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from bigr.metrics import kernel
from bigr.metrics.feature_networks import Features
from bigr.metrics.frechet import frechet_distance, trace_of_root
from bigr.metrics.inception_score import InceptionScore
from bigr.metrics.kernel import kernel_distance
from bigr.metrics.manifold import precision_recall
from bigr.metrics.moments import Moments
from bigr.metrics.statistics import FeatureStatistics, Reference, compare, frechet_by_count

Array = NDArray[np.float64]


def cloud(count: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated features, few directions of which matter, all positive as pool features are."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.Generator().manual_seed(99)
    mixing = (
        torch.randn(dim, dim, generator=shared) * torch.linspace(0, 6, dim).neg().exp()[:, None]
    )
    noise = torch.randn(count, dim, generator=generator)
    return 0.4 + shift + 0.3 * noise @ mixing / dim**0.5 * 4


def moments(features: Tensor, parts: int = 7) -> Moments:
    found = Moments(features.shape[1])
    for part in features.chunk(parts):
        found.update(part)
    return found


def numpy_moments(features: Tensor) -> tuple[Array, Array]:
    x = features.double().numpy()
    return x.mean(axis=0), np.cov(x, rowvar=False)


def reference_of(features: Tensor, **more: Any) -> Reference:
    found = moments(features)
    return Reference(found.mean, found.covariance, points=features, **more)


@pytest.fixture(scope="module")
def large() -> tuple[Tensor, Tensor]:
    """10,000 generated and real features of Inception's width."""
    return cloud(10_000, 2048, 0), cloud(10_000, 2048, 1, shift=0.01) * 1.05


@pytest.mark.slow
def test_fid_of_10000(large: tuple[Tensor, Tensor]) -> None:
    """torch-fidelity's formula, on float64 means (its own float32 ones cost 3e-5)."""
    theirs = [dict(zip(("mu", "sigma"), numpy_moments(x), strict=True)) for x in large]
    expected = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    first, second = (moments(x) for x in large)
    actual = frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    assert expected > 0.1
    assert actual == pytest.approx(expected, rel=1e-5)


def test_moments_are_numpys() -> None:
    x = cloud(500, 40, 3) + 100.0  # far from zero: sums of products cancel
    mean, covariance = numpy_moments(x)
    found = moments(x, parts=9)
    assert found.count == 500
    np.testing.assert_allclose(found.mean.numpy(), mean, rtol=1e-12)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(found.covariance.numpy(), covariance, atol=1e-9 * scale)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        _ = moments(x[:1], parts=1).covariance


@pytest.mark.parametrize("count", [60, 150])
def test_fid_of_fewer_samples_than_dimensions(count: int) -> None:
    """Singular covariances: the trace is the nuclear norm of X Y^T, which needs no root of them."""
    x, y = cloud(count, 200, 5), cloud(80, 200, 6, shift=0.1)
    centred = [(part - part.mean(0)).double().numpy() / (len(part) - 1) ** 0.5 for part in (x, y)]
    trace = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    squared = np.square(x.double().mean(0).numpy() - y.double().mean(0).numpy()).sum()
    expected = squared + sum(np.square(part).sum() for part in centred) - 2 * trace
    first, second = moments(x), moments(y)
    actual = frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    assert actual == pytest.approx(expected, rel=1e-5)


def test_trace_of_root_against_scipy() -> None:
    first, second = (moments(cloud(400, 30, seed)).covariance for seed in (1, 2))
    expected = np.trace(np.real(sqrtm(first.numpy() @ second.numpy())))
    assert float(trace_of_root(first, second)) == pytest.approx(expected, rel=1e-9)


def test_fid_of_the_same_and_of_shifted() -> None:
    found = moments(cloud(300, 20, 0))
    same = frechet_distance(found.mean, found.covariance, found.mean, found.covariance)
    assert same == pytest.approx(0, abs=1e-7)
    shifted = frechet_distance(found.mean + 0.5, found.covariance, found.mean, found.covariance)
    assert shifted == pytest.approx(20 * 0.25, rel=1e-9)
    with pytest.raises(ValueError, match="20 features on one side and 19 on the other"):
        frechet_distance(found.mean, found.covariance, found.mean[1:], found.covariance[1:, 1:])
    with pytest.raises(ValueError, match="isn't finite"):
        frechet_distance(found.mean * float("nan"), found.covariance, found.mean, found.covariance)


@pytest.mark.parametrize("batch", [64, 77, 1000])
def test_inception_score(batch: int) -> None:
    logits = 3 * torch.randn(1000, 50, generator=torch.Generator().manual_seed(0))
    score = InceptionScore(split_size=250)
    for part in logits.split(batch):
        score.update(part)
    expected = isc_features_to_metric(logits, splits=4, shuffle=False)["inception_score_mean"]
    assert expected > 2
    assert score.compute() == pytest.approx(expected, rel=1e-9)


def test_inception_score_of_the_last_short_split() -> None:
    """As ADM: the mean over splits, however long the last one is."""
    logits = 3 * torch.randn(700, 20, generator=torch.Generator().manual_seed(1))
    score = InceptionScore(split_size=300)
    score.update(logits)
    splits = [
        isc_features_to_metric(part, splits=1, shuffle=False)["inception_score_mean"]
        for part in logits.split(300)
    ]
    assert score.compute() == pytest.approx(sum(splits) / 3, rel=1e-9)


@pytest.mark.slow
def test_kernel_distance(large: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition, by loops over subsets in NumPy."""
    monkeypatch.setattr(kernel, "SUBSETS", 6)
    x, y = (part.double().numpy() for part in large)
    random, total = np.random.RandomState(2020), 0.0
    for _ in range(6):
        a = x[random.choice(len(x), 1000, replace=False)]
        b = y[random.choice(len(y), 1000, replace=False)]
        aa, bb, ab = ((p @ q.T / 2048 + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
        off = ~np.eye(1000, dtype=bool)
        total += aa[off].mean() + bb[off].mean() - 2 * ab.mean()
    assert kernel_distance(*large) == pytest.approx(total / 6, rel=1e-5)
    assert total > 0


@pytest.mark.slow
def test_precision_and_recall(large: tuple[Tensor, Tensor]) -> None:
    x, y = large[0][:3000].double(), large[1][:2000].double() / 1.05
    theirs = prc_features_to_metric(
        x, y, prc_neighborhood=3, prc_batch_size=1000, save_cpu_ram=False, verbose=False
    )
    ours = precision_recall(x.float(), y.float(), 3)
    assert 0.1 < theirs["recall"] < 0.9
    assert ours.precision == pytest.approx(theirs["precision"], rel=1e-5)
    assert ours.recall == pytest.approx(theirs["recall"], rel=1e-5)


def test_compare_puts_it_together() -> None:
    """Every figure from streamed parts equals its own function on the whole."""
    pool, spatial, logits = cloud(400, 24, 0), cloud(400, 30, 1), torch.randn(400, 10)
    real, real_spatial = cloud(300, 24, 2, shift=0.1), cloud(300, 30, 3)
    statistics = FeatureStatistics(split_size=100)
    for start in range(0, 400, 90):
        part = slice(start, start + 90)
        statistics.update(Features(pool[part], logits[part], spatial[part]))
    found = moments(real_spatial)
    reference = reference_of(real, spatial_mean=found.mean, spatial_covariance=found.covariance)
    figures = compare(statistics, reference)
    assert list(figures) == ["fid", "sfid", "is", "precision", "recall", "kid"]
    for name, x, y in (("fid", pool, real), ("sfid", spatial, real_spatial)):
        mx, cx = numpy_moments(x)
        my, cy = numpy_moments(y)
        root = np.real(sqrtm(cx @ cy))
        expected = np.square(mx - my).sum() + np.trace(cx + cy - 2 * root)
        assert figures[name] == pytest.approx(expected, rel=1e-5)
    assert (figures["precision"], figures["recall"]) == precision_recall(pool, real)
    assert figures["kid"] == kernel_distance(pool, real)
    by_count = frechet_by_count(pool, reference)
    assert list(by_count) == [50, 100, 200]
    first = moments(pool[:100])
    expected = frechet_distance(first.mean, first.covariance, reference.mean, reference.covariance)
    assert by_count[100] == pytest.approx(expected)
    few = compare(statistics, reference, with_manifold=False)
    assert list(few) == ["fid", "sfid", "is"]
