"""Figures of parts of a set, their spread by chance, and the test of two sets."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from bigr.metrics.features import Features
from bigr.metrics.moments import Moments
from bigr.metrics.resampling import PartialScores, compare_sets, standard_errors
from bigr.metrics.statistics import FeatureStatistics, Reference, compare

DIM = 3


def cloud(count: int, seed: int, dim: int = DIM, shift: float = 0.0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)) + shift


def reference_of(
    real: Tensor, spatial: Tensor | None = None, points: Tensor | None = None
) -> Reference:
    found = []
    for part in (real,) if spatial is None else (real, spatial):
        moments = Moments(part.shape[1])
        moments.update(part)
        found += [moments.mean, moments.covariance]
    return Reference(*found, points=points)


@pytest.mark.parametrize("dim", [3, 60])
def test_parts_have_the_figures_that_they_have_alone(dim: int) -> None:
    """With fewer and with more images than features."""
    pool, spatial, logits = cloud(90, 0, dim), cloud(90, 1, 5), cloud(90, 2, 4)
    real = cloud(80, 3, dim) * 1.2 + 0.1
    reference = reference_of(real, cloud(80, 4, 5), points=real)
    scores = PartialScores(Features(pool, logits, spatial), reference)
    for chosen in (torch.arange(90), torch.arange(0, 90, 2), torch.tensor([7, 3, 50, 51, 80])):
        statistics = FeatureStatistics()
        statistics.update(Features(pool[chosen], logits[chosen], spatial[chosen]))
        expected = compare(statistics, reference)
        found = scores(chosen)
        assert list(found) == list(expected)
        found["kid"] = expected["kid"] = 0.0  # of all pairs, see below
        assert found == pytest.approx(expected, rel=1e-7)


def test_the_kernel_distance_of_a_part_is_that_of_all_its_pairs() -> None:
    points, real = cloud(30, 0, 5), cloud(20, 1, 5, shift=0.5)
    scores = PartialScores(Features(points), reference_of(real, points=real))
    chosen = torch.tensor([3, 29, 4, 11, 17])

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x.double() @ y.double()) / 5 + 1) ** 3

    within, within_real, across = (
        [kernel(x, y) for i, x in enumerate(one) for j, y in enumerate(other) if i != j or mixed]
        for one, other, mixed in (
            (points[chosen], points[chosen], False),
            (real, real, False),
            (points[chosen], real, True),
        )
    )
    means = [sum(values) / len(values) for values in (within, within_real, across)]
    assert scores(chosen)["kid"] == pytest.approx(means[0] + means[1] - 2 * means[2])


def test_only_what_there_is() -> None:
    scores = PartialScores(Features(cloud(20, 0)), reference_of(cloud(30, 1)))
    assert list(scores(torch.arange(20))) == ["fid"]


@pytest.mark.parametrize("count", [200, 201])
def test_the_spread_of_repetitions_is_that_of_halves(count: int) -> None:
    """The standard deviation over 300 sets, and that estimated from any single one of them."""
    real = cloud(500, 10_000) * 1.3 + 0.3
    reference = reference_of(real, points=real[:100])
    repeated, estimated = [], []
    for seed in range(300):
        scores = PartialScores(Features(cloud(count, seed), cloud(count, 300 + seed, 4)), reference)
        repeated.append(scores(torch.arange(count)))
        if seed < 10:
            estimated.append(standard_errors(scores, 60, seed))
    for name in ("fid", "is", "precision", "recall", "density", "kid"):
        spread = float(torch.tensor([one[name] for one in repeated]).std())
        mean = sum(one[name] for one in estimated) / len(estimated)
        assert mean == pytest.approx(spread, rel=0.2), name


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Equal sets differ significantly in 5% of all cases: 400 draws with 19 divisions each."""
    reference = reference_of(cloud(200, 10_000))
    alarms = 0
    for seed in range(400):
        scores = PartialScores(Features(cloud(16, seed)), reference)
        alarms += compare_sets(scores, 8, 19, seed)["fid"].is_significant
    low, high = binom.interval(0.999, 400, 0.05)
    assert low <= alarms <= high


def test_sets_that_differ() -> None:
    reference = reference_of(cloud(200, 10_000), points=cloud(200, 10_000))
    both = torch.cat([cloud(60, 0, shift=2.0), cloud(60, 1)])
    found = compare_sets(PartialScores(Features(both), reference), 60, 39)
    for name, sign in (("fid", 1), ("precision", -1)):
        assert found[name].is_significant
        assert found[name].p == 1 / 40
        assert found[name].difference * sign > 0
    swapped = compare_sets(PartialScores(Features(both.flip(0)), reference), 60, 39)
    assert swapped["fid"].difference == pytest.approx(-found["fid"].difference)
    # Equal sets in other orders do not differ at all.
    twice = torch.cat([cloud(30, 0), cloud(30, 0).flip(0)])
    same = compare_sets(PartialScores(Features(twice), reference), 30, 19)
    assert same["coverage"] == (0.0, 1.0)
    assert not same["fid"].is_significant
