"""The result of an evaluation: figures, the rows of a table, pictures, plots and other files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from bigr.metrics.resampling import StandardError


class Curve(NamedTuple):
    """One line of a plot."""

    x: str
    """Label of the x axis."""
    y: str
    """Label of the y axis."""
    points: dict[int, float]
    is_log: bool = False
    """Whether the x axis is logarithmic."""


@dataclass
class Report:
    """The result of an evaluation, which the entry point prints, writes and logs."""

    metrics: dict[str, Any]
    """The content of ``metrics.json``."""
    figures: dict[str, float] = field(default_factory=dict)
    """The main figures by name, for tables of sweeps, loggers and searches."""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    """Rows of the printed table: a name, then one cell for each of ``columns``."""
    columns: tuple[str, ...] = ("measured",)
    """Headings of the printed table, without that of the names."""
    notes: list[str] = field(default_factory=list)
    """Sentences below the table, about figures that would surprise a reader."""
    setting: str = ""
    """Complete sentences for a paper: what was measured, on which images, with which settings."""
    conditions: dict[str, Any] = field(default_factory=dict)
    """What two evaluations must have in common so that their figures can be compared, as plain
    data: the number of images, the network, the reference."""
    errors: dict[str, StandardError] = field(default_factory=dict)
    """Standard errors of figures, by name."""
    headline: dict[str, str] = field(default_factory=dict)
    """The scores for a paper, by title; without them, those in the first column of the table."""
    pictures: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    """Images (n, 3, H, W) in [0, 1] and the number of columns of their grid, by file name."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """Plots by file name."""
    captions: dict[str, str] = field(default_factory=dict)
    """What pictures, plots and other files show, by file name."""
    files: dict[str, Callable[[Path], object]] = field(default_factory=dict)
    """Functions that write other files, by file name."""
    cleanup: list[Callable[[], object]] = field(default_factory=list)
    """Functions to call when everything is written."""
