"""Temperatures against numbers worked out by hand, and the noise against its distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from bigr.sampling.gumbel import GUMBEL_SCHEDULES, gumbel


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.4, 0.4, 0.4, 0.4]),
        ("up", [0.1, 0.2, 0.3, 0.4]),
        ("down", [0.3, 0.2, 0.1, 0.0]),
    ],
)
def test_schedules(name: str, expected: list[float]) -> None:
    actual = [GUMBEL_SCHEDULES[name].temperature(i, 4, 0.4) for i in range(1, 5)]
    assert actual == pytest.approx(expected)


def test_noise_is_the_quantile_function() -> None:
    """Uniform numbers become the quantiles of scipy's Gumbel distribution."""
    uniforms = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    expected = torch.from_numpy(stats.gumbel_r.ppf(uniforms.numpy()))
    torch.testing.assert_close(gumbel(uniforms), expected)
