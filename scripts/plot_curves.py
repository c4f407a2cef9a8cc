"""Draw the training and validation curves of runs from their csv/metrics.csv (needs matplotlib).

python scripts/plot_curves.py curves.png outputs/demo/generator
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure

SMOOTHING = 0.9
PANELS = (("loss", "loss per bit"), ("bit_accuracy", "bit accuracy"))


def column(rows: list[dict[str, str]], name: str) -> tuple[list[int], list[float]]:
    """Return the steps and the values of a column, without empty cells."""
    found = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
    return [step for step, _ in found], [value for _, value in found]


def smoothed(values: list[float]) -> list[float]:
    """Return the exponential moving average of ``values``, corrected for its bias at the start."""
    total, weight, found = 0.0, 0.0, []
    for value in values:
        total = SMOOTHING * total + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        found.append(total / weight)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of generators")
    options = parser.parse_args()
    figure = Figure(figsize=(9, 3.2 * len(options.runs)), layout="constrained")
    grid = figure.subplots(len(options.runs), len(PANELS), squeeze=False)
    for run, line in zip(options.runs, grid, strict=True):
        with (run / "csv" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        for axes, (name, label) in zip(line, PANELS, strict=True):
            steps, values = column(rows, f"train/{name}")
            axes.plot(steps, values, color="0.85", linewidth=0.8)
            axes.plot(steps, smoothed(values), label="training, smoothed")
            axes.plot(*column(rows, f"val/{name}"), "o-", markersize=4, label="validation")
            axes.set(xlabel="step", ylabel=label, title=run.name)
            axes.grid(visible=True, color="0.9")
            axes.legend(frameon=False)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.picture, dpi=110)
    print(options.picture)


if __name__ == "__main__":
    main()
