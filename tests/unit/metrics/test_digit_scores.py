"""Scores of generated digits."""

from __future__ import annotations

import pytest
import torch

from bigr.data.image_arrays import to_uint8
from bigr.metrics.digit_scores import DigitsReport, balanced_labels, share_of_copies
from tests.models import tiny_autoencoder


def test_copies_are_counted() -> None:
    originals = torch.rand(5, 3, 4, 4)
    images = torch.cat([originals[:2], torch.rand(6, 3, 4, 4)])
    assert share_of_copies(images, originals) == 2 / 8
    assert share_of_copies(images + 1e-4 / 255, originals) == 2 / 8


@pytest.mark.parametrize("count", [10, 15, 1000])
def test_balanced_labels(count: int) -> None:
    labels = balanced_labels(count)
    counts = torch.bincount(labels, minlength=10)
    assert len(labels) == count
    assert counts.max() - counts.min() <= 1
    assert labels.tolist() == sorted(labels.tolist())


def test_report() -> None:
    """Against loops over pixels; the reference are reconstructions of the test split."""
    autoencoder = tiny_autoencoder().eval()
    report = DigitsReport(autoencoder, 8)
    with torch.no_grad():
        codes = (autoencoder.encode(report.test.images[:3]) > 0.5).float()
        expected = autoencoder.decode(codes).clamp(0, 1)
    torch.testing.assert_close(report.test_reconstructions[:3], expected, rtol=0, atol=1e-5)
    images = torch.cat([report.test_reconstructions[:20], report.train_reconstructions[:10]])
    labels = torch.cat([report.test.labels[:20], report.train.labels[:10]])
    scores = report.score(images, labels)
    assert scores.count == 30
    grey = [to_uint8(part).float().mean(dim=1).flatten(1) for part in (images, expected)]
    assert torch.equal(grey[0][:3].round(), grey[1].round())
    known = {picture.numpy().tobytes() for picture in to_uint8(report.train_reconstructions)}
    copies = sum(picture.numpy().tobytes() in known for picture in to_uint8(images))
    assert copies >= 10
    assert scores.copies == copies / 30
    assert report.score(images, labels, count_copies=False).copies == 0
    assert scores.precision >= 20 / 30
    assert report.reading()["originals"] > 0.98


def test_scores_of_the_training_split_use_different_images() -> None:
    report = DigitsReport(tiny_autoencoder(), 8)
    scores = report.training_scores(50)
    assert scores.count == 50
    assert scores == report.training_scores(50)
    assert scores != report.training_scores(51)
