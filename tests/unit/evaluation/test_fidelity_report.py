"""What a comparison reports besides its table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigr.evaluation.fidelity_figures import SetFigures
from bigr.evaluation.fidelity_report import ComparedSets, add_pictures, comparison_report
from bigr.evaluation.fidelity_settings import FidelitySettings
from bigr.evaluation.report_text import summary
from bigr.metrics.features import Features
from bigr.metrics.moments import Moments
from bigr.metrics.statistics import FeatureStatistics, Reference, compare


class Network:
    """Only the names of a network."""

    prefix, title, identity = "own_", "own classifier", "0123456789abcdef"

    def to(self, device: torch.device) -> Network:
        return self

    def __call__(self, images: Tensor) -> Features:
        raise NotImplementedError


def cloud(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def compared(*seeds: int) -> ComparedSets:
    real = cloud(200, 100)
    moments = Moments(3)
    moments.update(real)
    identity = {"source": "f" * 64, "count": 200}
    reference = Reference(moments.mean, moments.covariance, points=real, identity=identity)
    sets = []
    for seed in seeds:
        features = Features(cloud(120, seed))
        statistics = FeatureStatistics()
        statistics.update(features)
        sets.append(SetFigures(compare(statistics, reference), features))
    return ComparedSets(sets, Network(), reference, 32, "those of photos", "cpu")


def test_a_single_set() -> None:
    report = comparison_report(compared(0), FidelitySettings(reference="real", samples="photos"))
    assert report.setting == (
        "120 images of 32x32 pixels, those of photos, were compared with real (200 images) in the "
        "feature space of own classifier (SHA-256 0123456789ab)."
    )
    assert report.conditions == {
        "number of images": 120,
        "image size": 32,
        "network": "own classifier 0123456789ab",
        "reference": "ffffffffffff",
    }
    assert report.errors == {}
    assert list(report.curves["frechet_by_count.png"].points) == [60, 120]
    assert "Frechet distance-120 (own classifier): " in summary(report)
    images = torch.zeros(10, 3, 8, 8, dtype=torch.uint8)
    add_pictures(report, images, None, Network())
    assert list(report.pictures) == ["samples.png"]


def test_intervals_have_standard_errors() -> None:
    settings = FidelitySettings(reference="real", samples="photos", resamples=30)
    report = comparison_report(compared(0), settings)
    assert "from 30 random halves" in report.setting
    for name, most in (("own_recall", 1.0), ("own_kernel", 9.0), ("own_coverage", 1.0)):
        low, high = report.metrics["intervals"][name]
        error, freedom = report.errors[name]
        value = report.figures[name]
        assert low == pytest.approx(value - 1.959964 * error)
        assert high == pytest.approx(min(most, value + 1.959964 * error))
        assert freedom == 29


def test_repetitions_have_the_standard_error_of_their_mean() -> None:
    report = comparison_report(compared(0, 1, 2), FidelitySettings(reference="real", repeats=3))
    assert "standard deviations of 3 such sets" in report.setting
    values = torch.tensor(report.metrics["repeats"]["own_frechet"]["values"]).double()
    error, freedom = report.errors["own_frechet"]
    assert error == pytest.approx(float(values.std()) / 3**0.5)
    assert freedom == 2
    assert f"± {float(values.std()):.4g}" in summary(report)


def test_a_comparison_of_two_sets() -> None:
    settings = FidelitySettings(reference="real", samples="photos", against="b", resamples=19)
    report = comparison_report(compared(0, 1), settings)
    assert report.setting.endswith(
        "They were also compared with equally many images of b by a permutation test with 19 "
        "divisions."
    )
    assert {"p", "is_significant"} <= report.metrics["comparison"]["own_recall"].keys()
