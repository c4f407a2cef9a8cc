"""Features that are not numbers are named by every metric, instead of ending in 0 or NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bigr.evaluation.linear_heads import HeadSettings, LinearHeads
from bigr.metrics.features import Features, check_finite
from bigr.metrics.inception_score import InceptionScore
from bigr.metrics.kernel import kernel_distance
from bigr.metrics.manifold import precision_recall
from bigr.metrics.statistics import FeatureStatistics, Reference, compare
from tests.feature_clouds import cloud, moments

GOOD = cloud(60, 8, 0)


def heads() -> LinearHeads:
    settings = HeadSettings(learning_rates=[0.1], epochs=1, warmup_epochs=0, batch_size=20)
    return LinearHeads(8, 2, settings, torch.device("cpu"))


def frechet(features: Tensor) -> dict[str, float]:
    statistics = FeatureStatistics(keeps_points=False)
    statistics.update(Features(features, torch.zeros(len(features), 3)))
    found = moments(GOOD)
    return compare(statistics, Reference(found.mean, found.covariance))


LABELS = torch.arange(60) % 2
METRICS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "precision": (lambda x: precision_recall(x, GOOD), "the generated features of 2 of 60 images"),
    "recall": (lambda x: precision_recall(GOOD, x), "the real features of 2 of 60 images"),
    "kernel": (lambda x: kernel_distance(x, GOOD), "the generated features of 2 of 60 images"),
    "real kernel": (lambda x: kernel_distance(GOOD, x), "the real features of 2 of 60 images"),
    "inception": (lambda x: InceptionScore().update(x), "the logits of 2 of 60 images"),
    "frechet": (frechet, "some features were NaN or infinite"),
    "probe, training": (lambda x: heads().fit(x, LABELS), "features for training of 2 of 60"),
    "probe, validation": (lambda x: heads().score(x, LABELS), "features for validation of 2 of 60"),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", METRICS)
def test_metrics_refuse_them(name: str, value: float) -> None:
    metric, message = METRICS[name]
    metric(GOOD)
    bad = GOOD.clone()
    bad[[3, 50], 2] = value
    with pytest.raises(ValueError, match=message):
        metric(bad)


def test_every_part_of_many_features_is_looked_at() -> None:
    features = torch.zeros(20_000, 2, dtype=torch.float16)
    check_finite(features, "the features")
    features[[0, 19_999], 1] = float("-inf")
    with pytest.raises(ValueError, match="the features of 2 of 20000 images are not finite"):
        check_finite(features, "the features")
