"""IS, KID, precision, recall and all metrics together, against other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from bigr.metrics import kernel
from bigr.metrics.features import Features
from bigr.metrics.frechet import frechet_distance
from bigr.metrics.inception_score import InceptionScore
from bigr.metrics.kernel import kernel_distance
from bigr.metrics.manifold import density_coverage, precision_recall
from bigr.metrics.statistics import FeatureStatistics, Reference, compare, frechet_by_count
from tests.feature_clouds import cloud, moments, numpy_moments


def reference_of(features: Tensor, **more: Any) -> Reference:
    found = moments(features)
    return Reference(found.mean, found.covariance, points=features, **more)


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
    assert list(figures) == [
        *("fid", "sfid", "is", "precision", "recall", "density", "coverage", "kid")
    ]
    for name, x, y in (("fid", pool, real), ("sfid", spatial, real_spatial)):
        mx, cx = numpy_moments(x)
        my, cy = numpy_moments(y)
        root = np.real(sqrtm(cx @ cy))
        expected = np.square(mx - my).sum() + np.trace(cx + cy - 2 * root)
        assert figures[name] == pytest.approx(expected, rel=1e-5)
    assert (figures["precision"], figures["recall"]) == precision_recall(pool, real)
    assert (figures["density"], figures["coverage"]) == density_coverage(pool, real)
    assert figures["kid"] == kernel_distance(pool, real)
    by_count = frechet_by_count(pool, reference)
    assert list(by_count) == [50, 100, 200]
    parts = [moments(pool[:count]) for count in (100, len(pool))]
    first, whole = (
        frechet_distance(part.mean, part.covariance, reference.mean, reference.covariance)
        for part in parts
    )
    assert by_count[100] != pytest.approx(first)  # folders are sorted by class
    assert by_count[50] > by_count[100] > by_count[200] > whole
    assert frechet_by_count(pool, reference) == by_count
    few = compare(statistics, reference, with_manifold=False)
    assert list(few) == ["fid", "sfid", "is"]
