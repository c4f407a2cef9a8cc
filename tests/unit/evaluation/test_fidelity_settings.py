"""Settings that contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from bigr.evaluation.fidelity_settings import FidelitySettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"real images to compare with are needed: add reference=…\."),
        ({"reference": "a", "published": {"fd": 3.0}}, "there is no score fd; choose from fid, "),
        ({"reference": "a", "tolerance": {"fd": 3.0}}, "there is no score fd; choose from fid, "),
        ({"reference": "a", "samples": "b", "repeats": 2}, "repeats needs a generator: "),
        ({"reference": "a", "against": "b"}, "is compared with samples=…, which is missing"),
        ({"reference": "a", "count": 1}, "count must be an integer of at least 2 or null, got 1"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FidelitySettings(**settings)


def test_number_of_resamples() -> None:
    alone, both = {"reference": "a", "samples": "b"}, {"against": "c"}
    assert FidelitySettings(**alone).num_resamples == 0
    assert FidelitySettings(**alone, **both).num_resamples == 199
    for number in (0, 7):
        assert FidelitySettings(**alone, **both, resamples=number).num_resamples == number
