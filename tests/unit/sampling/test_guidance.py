"""Guidance scales against numbers worked out by hand."""

from __future__ import annotations

import pytest

from bigr.sampling.guidance import (
    GUIDANCE_SCHEDULES,
    CosineGuidance,
    GuidanceInterval,
    PiecewiseGuidance,
)


def test_schedules() -> None:
    constant, linear = GUIDANCE_SCHEDULES["constant"], GUIDANCE_SCHEDULES["linear"]
    assert [constant.scale(i, 4, 2.5) for i in range(1, 5)] == [2.5] * 4
    assert [linear.scale(i, 4, 3.0) for i in range(1, 5)] == [1.5, 2.0, 2.5, 3.0]
    assert [linear.scale(i, 4, 0.0) for i in range(1, 5)] == [0.75, 0.5, 0.25, 0.0]


def test_cosine() -> None:
    """(1 - cos x) / 2 at 0, 60, 90 and 120 degrees is 0, 1/4, 1/2 and 3/4; then 0, 20 and 80."""
    cosine = GUIDANCE_SCHEDULES["cosine"]
    scales = [cosine.scale(i, 6, 5.0) for i in (1, 3, 4, 5)]
    assert scales == pytest.approx([1.0, 2.0, 3.0, 4.0])
    squared = [CosineGuidance(2.0).scale(i, 3, 2.0) for i in (1, 2, 3)]
    assert squared == pytest.approx([1.0, 1.030153690, 1.413175911])


def test_piecewise() -> None:
    """Weights at iterations 1, 3 and 5, and halfway between them."""
    schedule = PiecewiseGuidance((0.0, 1.0, 0.5))
    assert [schedule.scale(i, 5, 3.0) for i in range(1, 6)] == [1.0, 2.0, 3.0, 2.5, 2.0]
    assert schedule.scale(1, 1, 3.0) == 1.0
    assert [PiecewiseGuidance((0.5,)).scale(i, 2, 3.0) for i in (1, 2)] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("interval", "guided"),
    [((0.0, 1.0), [1, 2, 3, 4, 5]), ((0.2, 1.0), [2, 3, 4, 5]), ((0.3, 0.7), [2, 3, 4]),
     ((0.5, 0.5), [3]), ((0.91, 1.0), [])],
)  # fmt: skip
def test_interval(interval: tuple[float, float], guided: list[int]) -> None:
    """The middles of five iterations are 0.1, 0.3, 0.5, 0.7 and 0.9."""
    schedule = GuidanceInterval(GUIDANCE_SCHEDULES["linear"], *interval)
    scales = {i: schedule.scale(i, 5, 6.0) for i in range(1, 6)}
    assert scales == {i: 1.0 + i if i in guided else 1.0 for i in range(1, 6)}
