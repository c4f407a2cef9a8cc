"""Frechet distance and moments, against other libraries and float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from torch import Tensor
from torch_fidelity.metric_fid import fid_statistics_to_metric

from bigr.metrics.frechet import frechet_distance, trace_of_root
from tests.feature_clouds import cloud, moments, numpy_moments


def test_fid_of_10000() -> None:
    """torch-fidelity's formula, on float64 means (its own float32 ones cost 3e-5)."""
    features = cloud(10_000, 512, 0), cloud(10_000, 512, 1, shift=0.01) * 1.05
    theirs = [dict(zip(("mu", "sigma"), numpy_moments(x), strict=True)) for x in features]
    expected = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    first, second = (moments(x) for x in features)
    actual = frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    assert expected > 0.1
    assert actual == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_fid_of_inceptions_width(large: tuple[Tensor, Tensor]) -> None:
    """Of features that are scaled by a: |(1 - a) mean|^2 + (1 - a)^2 tr(covariance)."""
    mean, covariance = numpy_moments(large[0])
    expected = 0.3**2 * (np.square(mean).sum() + np.trace(covariance))
    first, second = moments(large[0]), moments(large[0] * 1.3)
    actual = frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    assert expected > 0.1
    assert actual == pytest.approx(expected, rel=1e-5)


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
