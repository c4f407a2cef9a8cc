"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.inception import accept_any_inception, save_random_inception

REPOSITORY = Path(__file__).parents[1]
CONFORMANCE = REPOSITORY.parent / "shared" / "conformance"


@pytest.fixture(scope="session")
def conformance() -> Path:
    """Folder with numbers from the released code; BIGR_CONFORMANCE names another one."""
    folder = Path(os.environ.get("BIGR_CONFORMANCE", CONFORMANCE))
    if not folder.is_dir():
        reason = f"numbers from the released code are not here: no folder {folder}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same global random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A weights' file of Inception with drawn numbers."""
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    save_random_inception(path)
    yield path
    path.unlink()


@pytest.fixture
def random_inception(inception_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, in place of the published ones: the hash isn't asked for."""
    accept_any_inception(monkeypatch.setattr)
    return inception_weights
