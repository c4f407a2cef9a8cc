"""Every token is unmasked exactly once, whatever the schedule."""

from __future__ import annotations

import itertools
from decimal import Decimal, localcontext

import pytest

from bigr.sampling.mask_schedules import MASK_SCHEDULES, CosineMaskSchedule, LinearMaskSchedule


def masked(name: str, iterations: int, total: int) -> list[int]:
    schedule = MASK_SCHEDULES[name]
    return [total, *(schedule.num_masked(i, iterations, total) for i in range(1, iterations + 1))]


@pytest.mark.parametrize("name", MASK_SCHEDULES)
@pytest.mark.parametrize("total", [16, 256, 1024])
def test_every_token_exactly_once(total: int, name: str) -> None:
    for iterations in range(1, total + 1):
        left = masked(name, iterations, total)
        unmasked = [before - after for before, after in itertools.pairwise(left)]
        assert left[-1] == 0
        assert min(unmasked) >= 0
        assert sum(unmasked) == total


@pytest.mark.parametrize("power", [0.3, 0.7, 1.5, 4.0])
@pytest.mark.parametrize("kind", [CosineMaskSchedule, LinearMaskSchedule])
def test_every_token_exactly_once_with_a_power(
    kind: type[CosineMaskSchedule | LinearMaskSchedule], power: float
) -> None:
    for iterations in (1, 2, 7, 64, 300):
        left = [
            256,
            *(kind(power).num_masked(i, iterations, 256) for i in range(1, iterations + 1)),
        ]
        assert left == sorted(left, reverse=True)
        assert left[-1] == 0


def test_powers_by_hand() -> None:
    """16 (1 - x^2) at quarters; cos(90 x^2) is 0.9952, 0.9239 and 0.6344 at quarters."""
    assert [LinearMaskSchedule(2.0).num_masked(i, 4, 16) for i in range(1, 5)] == [15, 12, 7, 0]
    cosine = [CosineMaskSchedule(2.0).num_masked(i, 4, 1000) for i in range(1, 5)]
    assert cosine == [995, 923, 634, 0]


def test_cosine_of_the_paper() -> None:
    """floor(256 cos(4.5 degrees * i)) for 20 iterations, from a table of cosines."""
    assert masked("cosine", 20, 256) == [
        256, 255, 252, 248, 243, 236, 228, 218, 207, 194, 181, 166, 150, 133, 116, 97, 79, 59, 40,
        20, 0,
    ]  # fmt: skip


def test_cosine_in_exact_arithmetic() -> None:
    """Counts from the half-angle formula in 50 digits, for 64 iterations of 1,024 tokens."""
    with localcontext() as context:
        context.prec = 50
        cosines = {0: Decimal(1), 64: Decimal(0)}
        for width in (64, 32, 16, 8, 4, 2):  # cos((a + b) / 2) of neighbours a and b
            for start in range(0, 64, width):
                low, high = cosines[start], cosines[start + width]
                cosines[start + width // 2] = (low + high) / (2 * half_cosine(width_cosine(width)))
        expected = [int(1024 * cosines[i]) for i in range(65)]
    assert masked("cosine", 64, 1024) == expected


def half_cosine(cosine: Decimal) -> Decimal:
    return ((1 + cosine) / 2).sqrt()


def width_cosine(width: int) -> Decimal:
    """cos(90 degrees * width / 64)."""
    cosine = Decimal(0)
    while width < 64:
        cosine, width = half_cosine(cosine), width * 2
    return cosine


def test_linear() -> None:
    assert masked("linear", 25, 100) == list(range(100, -1, -4))
    assert masked("linear", 3, 16) == [16, 10, 5, 0]
