"""Ratios of saved benchmark results, as a picture: ``bench/plot.py results.jsonl out.png``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    draw(options.results, options.picture)


def draw(results: Path, picture: Path) -> None:
    """One line per benchmark and device; the commits along the axis."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    commits = list(dict.fromkeys(row["commit"] for row in rows))
    names = list(dict.fromkeys(f"{row['name']} ({row['device']})" for row in rows))
    figure, axes = plt.subplots(figsize=(9, 2 + 0.6 * len(names)))
    for name in names:
        own = [row for row in rows if f"{row['name']} ({row['device']})" == name]
        axes.plot([row["commit"] for row in own], [row["ratio"] for row in own], "o-", label=name)
    axes.set_xticks(commits)
    axes.set_ylabel("times as fast as plain")
    axes.set_ylim(bottom=0)
    axes.axhline(1, color="grey", linewidth=0.8)
    figure.legend(loc="lower center")
    figure.subplots_adjust(bottom=min(0.6, 0.14 + 0.035 * len(names)))
    figure.savefig(picture, dpi=110)
    print(picture)


if __name__ == "__main__":
    main()
