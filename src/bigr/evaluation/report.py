"""What an evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor


class Curve(NamedTuple):
    """One line to plot."""

    x: str
    """Label."""
    y: str
    """Label."""
    points: dict[int, float]
    is_log: bool = False
    """Whether x is logarithmic."""


@dataclass
class Evaluation:
    """Figures, a summary of them, pictures."""

    metrics: dict[str, Any]
    """For ``metrics.json``."""
    figures: dict[str, float] = field(default_factory=dict)
    """The main ones by name: for tables of sweeps, dashboards and searches."""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    """Of the summary table: name, then a cell for each of ``columns``."""
    pictures: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    """File name to images (n, 3, H, W) and columns."""
    columns: tuple[str, ...] = ("generated", "training split", "wanted")
    """Headings of the summary table."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """By file name."""
    files: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    """File name to what writes it."""
    cleanup: list[Callable[[], None]] = field(default_factory=list)
    """Done when everything is written."""
