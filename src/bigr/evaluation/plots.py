"""Plots as PNG files, if matplotlib is installed (the extra ``plots``).

Every function returns the path that it wrote, or None without matplotlib.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bigr.data.files import replacing

log = logging.getLogger(__name__)

SIZE = (5.5, 4.0)
MOST_TICKS = 12
"""Up to this number of points, every point has a label on the x axis."""
MOST_IN_LEGEND = 10


@functools.cache
def _log_once() -> None:
    log.info("no plots without matplotlib: pip install 'bigr-lightning[plots]'")


def _plot(path: Path, draw: Callable[[Any, Any], None], **labels: Any) -> Path | None:
    """Let ``draw`` fill a figure and its axes, and write it; no screen is needed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        _log_once()
        return None
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    draw(figure, axes)
    axes.set(**labels)
    with replacing(path) as part:
        figure.savefig(part, dpi=150, format="png")
    return path


def lines(
    path: Path,
    curves: Mapping[str, Mapping[float, float]],
    *,
    x: str,
    y: str,
    legend: str = "",
    log_x: bool = False,
) -> Path | None:
    """Draw one line per entry of ``curves``.

    Args:
        path: PNG to write.
        curves: points (x to y) by name; an empty name has no entry in the legend.
        x: label of the x axis.
        y: label of the y axis.
        legend: heading of the legend.
        log_x: use a logarithmic x axis.
    """

    def draw(_figure: Any, axes: Any) -> None:
        for name, points in curves.items():
            xs = sorted(points)
            axes.plot(xs, [points[value] for value in xs], "o-", markersize=4, label=name)
        if log_x:
            axes.set_xscale("log")
        ticks = sorted({value for points in curves.values() for value in points})
        if len(ticks) <= MOST_TICKS:
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        if any(curves):
            axes.legend(title=legend, frameon=False)

    return _plot(path, draw, xlabel=x, ylabel=y)


def scatter(path: Path, points: Any, labels: Any) -> Path | None:
    """Draw ``points`` (n, 2), coloured by ``labels`` (n,), with a legend for up to ten classes."""

    def draw(_figure: Any, axes: Any) -> None:
        classes = sorted(set(labels.tolist()))
        for label in classes:
            chosen = points[labels == label]
            axes.scatter(*chosen.T, s=8, color=f"C{label % 10}", label=str(label))
        if len(classes) <= MOST_IN_LEGEND:
            axes.legend(frameon=False, markerscale=2, bbox_to_anchor=(1, 1))
        axes.grid(visible=False)

    return _plot(path, draw, xticks=[], yticks=[])


def front(path: Path, points: Sequence[tuple[float, float, str]], *, x: str, y: str) -> Path | None:
    """Draw named points, and join those that no other point beats in both (small x, large y)."""

    def draw(_figure: Any, axes: Any) -> None:
        best: list[tuple[float, float]] = []
        for one in sorted(points, key=lambda point: (point[0], -point[1])):
            if not best or one[1] > best[-1][1]:
                best.append(one[:2])
        axes.scatter(*zip(*(point[:2] for point in points), strict=True), s=16, color="0.5")
        axes.plot(*zip(*best, strict=True), "o-", markersize=4, color="C0")
        for one in points:
            axes.annotate(one[2], one[:2], xytext=(4, 4), textcoords="offset points", fontsize=7)

    return _plot(path, draw, xlabel=x, ylabel=y)


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
    """Draw a table of ``values`` in colours and numbers; None stands for a job that failed."""

    def draw(figure: Any, axes: Any) -> None:
        axes.grid(visible=False)
        numbers = [[float("nan") if v is None else v for v in row] for row in values]
        picture = axes.imshow(numbers, cmap="viridis", aspect="auto")
        figure.colorbar(picture, ax=axes)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                text = "failed" if value is None else f"{value:.4g}"
                color = "w" if value is not None and picture.norm(value) < 0.6 else "k"
                axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)

    return _plot(path, draw, xlabel=x, ylabel=y, title=title)
