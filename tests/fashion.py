"""Fashion-MNIST for tests: where it is, and what happens without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Folder of Debian's package ``dataset-fashion-mnist``."""

needs_fashion = pytest.mark.skipif(
    not FASHION.is_dir() and os.environ.get("CI") != "true",
    reason="needs the package dataset-fashion-mnist (apt-get install dataset-fashion-mnist)",
)
"""Skips a test without the package. With ``CI=true`` the test runs, and fails."""
