"""Plots, where matplotlib is installed (the extra ``plots``)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

SIZE = (5.5, 4.0)
MOST_TICKS = 12
"""Up to so many points have their own values below them."""


@functools.cache
def _say_once() -> None:
    log.info("no plots without matplotlib: pip install 'bigr-lightning[plots]'")


def figure_and_axes() -> tuple[Any, Any] | None:
    """An empty figure that needs no screen; None, with one line of log, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        _say_once()
        return None
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, path: Path) -> Path:
    """Write a PNG; a half-written file is never seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, dpi=150, format="png")
    part.replace(path)
    return path


def lines(
    path: Path,
    curves: Mapping[str, Mapping[float, float]],
    *,
    x: str,
    y: str,
    title: str = "",
    legend: str = "",
    log_x: bool = False,
) -> Path | None:
    """One line per entry of ``curves``, x to y.

    Args:
        path: PNG to write.
        curves: by name; an empty name has no entry in the legend.
        x: label.
        y: label.
        title: above.
        legend: heading of the legend.
        log_x: logarithmic x.
    """
    made = figure_and_axes()
    if made is None:
        return None
    figure, axes = made
    for name, points in curves.items():
        xs = sorted(points)
        axes.plot(xs, [points[value] for value in xs], "o-", markersize=4, label=name)
    ticks = sorted({value for points in curves.values() for value in points})
    if log_x:
        axes.set_xscale("log")
    if len(ticks) <= MOST_TICKS:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set(xlabel=x, ylabel=y, title=title)
    if any(curves):
        axes.legend(title=legend, frameon=False)
    return save(figure, path)


def scatter(path: Path, points: Any, labels: Any) -> Path | None:
    """``points`` (n, 2), coloured by ``labels`` (n,), with a legend for a few classes."""
    made = figure_and_axes()
    if made is None:
        return None
    figure, axes = made
    classes = sorted(set(labels.tolist()))
    for label in classes:
        is_one = labels == label
        colour = f"C{label % 10}"
        axes.scatter(points[is_one, 0], points[is_one, 1], s=8, color=colour, label=str(label))
    if len(classes) <= 10:
        axes.legend(frameon=False, markerscale=2, bbox_to_anchor=(1, 1))
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    return save(figure, path)


def front(path: Path, points: Sequence[tuple[float, float, str]], *, x: str, y: str) -> Path | None:
    """Points (x small is good, y large is good) with their names, and the best ones joined."""
    made = figure_and_axes()
    if made is None:
        return None
    figure, axes = made
    axes.scatter([p[0] for p in points], [p[1] for p in points], s=16, color="0.5")
    best: list[tuple[float, float]] = []
    for p in sorted(points, key=lambda p: (p[0], -p[1])):
        if not best or p[1] > best[-1][1]:
            best.append((p[0], p[1]))
    axes.plot([p[0] for p in best], [p[1] for p in best], "o-", markersize=4, color="C0")
    for p in points:
        axes.annotate(p[2], p[:2], xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set(xlabel=x, ylabel=y)
    return save(figure, path)


def heat_map(
    path: Path,
    values: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    x: str,
    y: str,
    title: str,
) -> Path | None:
    """A table of ``values`` by colour, with the numbers in it; None is a job that failed."""
    made = figure_and_axes()
    if made is None:
        return None
    figure, axes = made
    axes.grid(visible=False)
    numbers = [[float("nan") if v is None else v for v in row] for row in values]
    picture = axes.imshow(numbers, cmap="viridis", aspect="auto")
    figure.colorbar(picture, ax=axes)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            text = "failed" if value is None else f"{value:.4g}"
            dark = value is not None and picture.norm(value) < 0.6
            axes.text(j, i, text, ha="center", va="center", color="w" if dark else "k", fontsize=8)
    axes.set(xlabel=x, ylabel=y, title=title)
    return save(figure, path)
