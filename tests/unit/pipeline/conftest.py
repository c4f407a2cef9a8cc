"""A pipeline of tiny models."""

from __future__ import annotations

import pytest

from bigr import BiGRPipeline
from tests.models import tiny_autoencoder, tiny_generator


@pytest.fixture
def pipeline() -> BiGRPipeline:
    return BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
