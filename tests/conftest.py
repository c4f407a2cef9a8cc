"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.inception import accept_any_inception, save_random_inception

REPOSITORY = Path(__file__).parents[1]
CONFORMANCE = REPOSITORY / "tests" / "conformance" / "data"


@pytest.fixture(scope="session")
def conformance() -> Path:
    """Folder with weights, inputs and outputs of the released code; see its README."""
    return CONFORMANCE


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same global random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """File with random weights for Inception."""
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    save_random_inception(path)
    yield path
    path.unlink()


@pytest.fixture
def random_inception(inception_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File with random weights for Inception that is accepted in place of the published one."""
    accept_any_inception(monkeypatch.setattr)
    return inception_weights
