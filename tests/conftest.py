"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

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
