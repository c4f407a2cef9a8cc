"""Mean and covariance against NumPy, far from zero, and over processes."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from bigr.metrics.frechet import frechet_distance
from bigr.metrics.moments import Moments
from tests.feature_clouds import cloud, moments, numpy_moments


def test_moments_are_numpys() -> None:
    x = cloud(500, 40, 3)
    mean, covariance = numpy_moments(x)
    found = moments(x, parts=9)
    assert found.count == 500
    np.testing.assert_allclose(found.mean.numpy(), mean, rtol=1e-12)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(found.covariance.numpy(), covariance, atol=1e-12 * scale)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        _ = moments(x[:1], parts=1).covariance
    with pytest.raises(ValueError, match="no features yet"):
        _ = Moments(3).mean


@pytest.mark.parametrize("std", [1e-2, 1e-4])
def test_features_far_from_zero(std: float) -> None:
    """The distance of two sets around 10,000 is that of the same sets around zero."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 1000, 16)
    x, y = 1e4 + std * torch.randn(shape, generator=generator, dtype=torch.float64)
    y += std / 2
    (mean, covariance), (other_mean, other) = (numpy_moments(part - 1e4) for part in (x, y))
    root = np.real(sqrtm(covariance / std**2 @ other / std**2)) * std**2
    expected = np.square(mean - other_mean).sum() + np.trace(covariance + other - 2 * root)
    first, second = moments(x, parts=11), moments(y, parts=3)
    actual = frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    assert actual == pytest.approx(expected, rel=1e-6, abs=0)


def test_processes_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if one process had seen all points; each has its own centre, and one has seen none."""
    whole = 1e4 + 1e-2 * torch.randn(300, 5, dtype=torch.float64)
    whole[:100] += 7.0
    parts = [whole[:100], whole[100:100], whole[100:]]
    barrier, given = threading.Barrier(len(parts), timeout=20), dict[str, Tensor]()

    def all_reduce(tensor: Tensor) -> None:
        given[threading.current_thread().name] = tensor.clone()
        barrier.wait()
        total = sum(given.values())
        barrier.wait()
        tensor.copy_(total)

    monkeypatch.setattr("torch.distributed.all_reduce", all_reduce)
    found = [Moments(5) for _ in parts]
    for each, part in zip(found, parts, strict=True):
        each.update(part)
    threads = [threading.Thread(target=each.reduce) for each in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mean, covariance = numpy_moments(whole - 1e4)
    for each in found:
        assert each.count == 300
        np.testing.assert_allclose((each.mean - 1e4).numpy(), mean, rtol=1e-10)
        np.testing.assert_allclose(each.covariance.numpy(), covariance, rtol=1e-9, atol=1e-12)
