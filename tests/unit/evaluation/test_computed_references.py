"""Statistics of real images and their cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bigr.evaluation.computed_references import cache_folder, compute_reference, point_indices
from bigr.evaluation.stored_images import find_images
from bigr.inference.processes import ALONE
from bigr.metrics.features import Features

CPU = torch.device("cpu")


class Means:
    """The mean of each channel as features; counts the images that it sees."""

    prefix, title, identity = "means_", "means", "cd" * 32

    def __init__(self) -> None:
        self.seen = 0

    def to(self, device: torch.device) -> Means:
        return self

    def __call__(self, images: Tensor) -> Features:
        self.seen += len(images)
        return Features(images.double().mean(dim=(2, 3)).float())


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BIGR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "bigr"
    monkeypatch.setenv("BIGR_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_points_are_evenly_spaced() -> None:
    assert point_indices(7).tolist() == list(range(7))
    many = point_indices(1_281_167)
    assert (len(many), many[0], many[-1]) == (10_000, 0, 1_281_166)
    steps = many.diff()
    assert steps.max() - steps.min() <= 1


def test_statistics_are_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are those of numpy, and belong to a size."""
    monkeypatch.setenv("BIGR_CACHE", str(tmp_path))
    network = Means()
    for seen in (360, 360):
        images = find_images("digits", "reference", image_size=8)
        found = compute_reference(images, "digits", network, 8, ALONE, CPU)
        assert network.seen == seen
    pixels = images.batch(range(360)).double().mean(dim=(2, 3))
    assert torch.allclose(found.mean, pixels.mean(dim=0))
    assert torch.allclose(found.covariance, torch.cov(pixels.T), rtol=1e-4)
    assert found.points is not None
    assert torch.allclose(found.points.double(), pixels)
    assert found.identity["count"] == 360
    larger = find_images("digits", "reference", image_size=16)
    compute_reference(larger, "digits", network, 16, ALONE, CPU)
    assert network.seen == 720
