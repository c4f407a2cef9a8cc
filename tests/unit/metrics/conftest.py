"""Fixtures for tests of the metrics."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.feature_clouds import cloud


@pytest.fixture(scope="module")
def large() -> tuple[Tensor, Tensor]:
    """10,000 generated and real features of Inception's width."""
    return cloud(10_000, 2048, 0), cloud(10_000, 2048, 1, shift=0.01) * 1.05
