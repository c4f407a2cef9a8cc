"""Numbers with units."""

from __future__ import annotations

import pytest

from bigr.inference.units import amount, duration, speed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.034, "0.034 s"), (40, "40 s"), (119, "119 s"), (720, "12 min")),
        *((3 * 3600, "3 h"), (36 * 3600, "36 h"), (60 * 3600, "2.5 days")),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (25.13, "25.1 images/s"),
        (1, "1 images/s"),
        (0.2, "5 s per image"),
        (1 / 300, "5 min per image"),
    ],
)
def test_speed(per_second: float, text: str) -> None:
    assert speed(per_second, "images") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((96, "96 B"), (0, "0 B"), (14_000_000, "14 MB"), (2.32e8, "232 MB")),
        *((1.23456e9, "1.23 GB"), (5.1e12, "5.1 TB"), (7.5e15, "7,500 TB")),
    ],
)
def test_amount(value: float, text: str) -> None:
    assert amount(value, "B") == text
