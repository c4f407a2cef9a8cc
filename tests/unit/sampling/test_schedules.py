"""Every token is unmasked exactly once, whatever the schedule."""

from __future__ import annotations

import itertools
import math

import pytest

from bigr.sampling.sampler_config import SamplerConfig
from bigr.sampling.schedules import guidance_scale_at, gumbel_temperature_at, num_masked_after


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("total", [16, 256, 1024])
def test_every_token_exactly_once(total: int, schedule: str) -> None:
    for iterations in range(1, total + 1):
        config = SamplerConfig(num_iterations=iterations, mask_schedule=schedule)  # type: ignore[arg-type]
        left = [num_masked_after(i, total, config) for i in range(iterations + 1)]
        unmasked = [before - after for before, after in itertools.pairwise(left)]
        assert left[0] == total
        assert left[-1] == 0
        assert min(unmasked) >= 0
        assert sum(unmasked) == total


def test_cosine_and_linear_formulas() -> None:
    config = SamplerConfig(num_iterations=20)
    assert [num_masked_after(i, 256, config) for i in range(21)] == [
        *(math.floor(256 * math.cos(math.pi / 2 * i / 20)) for i in range(20)),
        0,
    ]
    linear = SamplerConfig(num_iterations=25, mask_schedule="linear")
    assert [num_masked_after(i, 100, linear) for i in range(26)] == list(range(100, -1, -4))


def test_guidance_schedules() -> None:
    constant = SamplerConfig(guidance_scale=2.5, num_iterations=4)
    assert [guidance_scale_at(i, constant) for i in range(1, 5)] == [2.5] * 4
    linear = SamplerConfig(guidance_scale=3.0, num_iterations=4, guidance_schedule="linear")
    assert [guidance_scale_at(i, linear) for i in range(1, 5)] == [1.5, 2.0, 2.5, 3.0]


def test_gumbel_schedules() -> None:
    for schedule, expected in {
        "constant": [0.4, 0.4, 0.4, 0.4],
        "up": [0.1, 0.2, 0.3, 0.4],
        "down": [0.3, 0.2, 0.1, 0.0],
    }.items():
        config = SamplerConfig(
            gumbel_temperature=0.4,
            num_iterations=4,
            gumbel_schedule=schedule,  # type: ignore[arg-type]
        )
        actual = [gumbel_temperature_at(i, config) for i in range(1, 5)]
        assert actual == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guidance_scale": -1}, "guidance_scale must be a number at least 0"),
        ({"num_iterations": 0}, "num_iterations must be a positive integer"),
        ({"num_denoise_steps": 1}, "num_denoise_steps must be at least 2"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"order": "entropy"}, "order must be one of confidence, random, raster"),
        ({"gumbel_temperature": float("nan")}, "gumbel_temperature must be a number"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**change)  # type: ignore[arg-type]
