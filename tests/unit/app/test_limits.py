"""Ranges of the sliders, and what a visitor may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from bigr.app.limits import Knobs, Limits


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-0.1, 3, 0.1, 0), "guidance_scale must be a number between 0 and 10"),
        ((11, 3, 0.1, 0), "guidance_scale must be a number between 0 and 10"),
        ((float("nan"), 3, 0.1, 0), "guidance_scale must be"),
        ((1, 0, 0.1, 0), "num_iterations must be a positive integer, got 0"),
        ((1, 2.5, 0.1, 0), "num_iterations must be a positive integer, got 2.5"),
        ((1, 3, 4, 0), "gumbel_temperature must be a number between 0 and 3"),
        ((1, 3, 0.1, -1), "seed must be an integer between 0 and 2147483647, got -1"),
        ((1, 3, 0.1, None), "seed must be an integer between 0 and 2147483647, got null"),
        ((1, 3, 0.1, 2**31), "seed must be an integer between 0 and 2147483647"),
    ],
)
def test_ranges_of_the_sliders(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Knobs(*values)


def test_a_visitor_has_room_for_an_upload() -> None:
    with pytest.raises(ValueError, match="visitor_mb=3 must be at least upload_mb=20"):
        Limits(visitor_mb=3)


@pytest.mark.parametrize("key", ["upload_mb", "megapixels", "pictures", "iterations"])
def test_limits_are_positive(key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key} must be a positive (number|integer)"):
        Limits(**{key: 0})
