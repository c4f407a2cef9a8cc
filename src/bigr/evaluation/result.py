"""What an evaluation leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Evaluation:
    """Figures, a summary of them, pictures."""

    metrics: dict[str, Any]
    """For ``metrics.json``."""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    """Of the summary table: name, then a cell for each of ``columns``."""
    pictures: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    """File name to images (n, 3, H, W) and columns."""
    columns: tuple[str, ...] = ("generated", "training split", "wanted")
    """Headings of the summary table."""
