"""Guidance scales against numbers worked out by hand."""

from __future__ import annotations

import pytest

from bigr.sampling.guidance import GUIDANCE_SCHEDULES, GuidanceInterval


def test_schedules() -> None:
    constant, linear = GUIDANCE_SCHEDULES["constant"], GUIDANCE_SCHEDULES["linear"]
    assert [constant.scale(i, 4, 2.5) for i in range(1, 5)] == [2.5] * 4
    assert [linear.scale(i, 4, 3.0) for i in range(1, 5)] == [1.5, 2.0, 2.5, 3.0]
    assert [linear.scale(i, 4, 0.0) for i in range(1, 5)] == [0.75, 0.5, 0.25, 0.0]


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
