"""One table and a few plots out of the folders of a sweep's jobs, finished or not."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigr.data.image_arrays import labelled_rows, load_picture, save_picture
from bigr.evaluation import plots

METRICS = "metrics.json"
LOWER_IS_BETTER = ("fid", "sfid", "kid", "frechet", "kernel", "copies", "l1", "lpips", "rfid")
TABLE = "sweep"


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep."""

    name: str
    """Of its folder."""
    folder: Path
    overrides: dict[str, str]
    """That it was given."""
    figures: dict[str, float] | None
    """None if it isn't finished."""


def read_jobs(folder: Path) -> list[SweepJob]:
    """All jobs below the folder of a sweep, in order.

    Raises:
        ValueError: if there are none.
    """
    jobs = []
    for path in sorted(folder.glob("*/.hydra/overrides.yaml"), key=lambda p: _natural(p.parts[-3])):
        place = path.parents[1]
        pairs = [line[2:].strip().strip("'\"") for line in path.read_text().splitlines()]
        overrides = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        figures = None
        if (place / METRICS).is_file():
            figures = json.loads((place / METRICS).read_text()).get("figures", {})
        jobs.append(SweepJob(place.name, place, overrides, figures))
    if not jobs:
        raise ValueError(f"{folder} holds no jobs of a sweep (<folder>/0/.hydra/overrides.yaml).")
    return jobs


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (10**9, name)


def swept_keys(jobs: Sequence[SweepJob]) -> list[str]:
    """Overrides that differ between jobs, those with the most values first."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    values = {key: {job.overrides.get(key) for job in jobs} for key in keys}
    return sorted((key for key in keys if len(values[key]) > 1), key=lambda key: -len(values[key]))


def is_better(name: str) -> int:
    """1 if more of a figure is better, -1 if less is."""
    last = name.rsplit("_", 1)[-1]
    return -1 if last in LOWER_IS_BETTER else 1


def best_job(jobs: Sequence[SweepJob], figure: str) -> SweepJob:
    """The finished job with the best ``figure``.

    Raises:
        ValueError: if no finished job has it.
    """
    found = [job for job in jobs if job.figures and figure in job.figures]
    if not found:
        known = sorted({name for job in jobs for name in job.figures or {}})
        raise ValueError(
            f"no finished job has the figure {figure}; there are {', '.join(known) or 'none'}."
        )
    return max(found, key=lambda job: is_better(figure) * (job.figures or {})[figure])


def table(jobs: Sequence[SweepJob]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: job, what was swept, its figures, or that it isn't finished."""
    keys = swept_keys(jobs)
    names = list(dict.fromkeys(name for job in jobs for name in job.figures or {}))
    rows = []
    for job in jobs:
        cells = [job.overrides.get(key, "") for key in keys]
        figures = job.figures or {}
        numbers = [f"{figures[name]:.6g}" if name in figures else "" for name in names]
        rows.append(
            [job.name, *cells, *numbers, "done" if job.figures is not None else "not finished"]
        )
    return ["job", *keys, *names, "state"], rows


def summarise(folder: Path) -> list[Path]:
    """Write ``sweep.csv``, ``sweep.md`` and the plots into ``folder``.

    Returns:
        The files.

    Raises:
        ValueError: if there are no jobs.
    """
    jobs = read_jobs(folder)
    headings, rows = table(jobs)
    files = [folder / f"{TABLE}.csv", folder / f"{TABLE}.md"]
    with files[0].open("w", newline="") as file:
        csv.writer(file).writerows([headings, *rows])
    lines = [headings, ["---"] * len(headings), *rows]
    files[1].write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
    keys = [key for key in swept_keys(jobs) if _are_numbers(jobs, key)]
    names = list(dict.fromkeys(name for job in jobs for name in job.figures or {}))
    drawn = [_curves(folder, jobs, keys, name) for name in names if keys]
    if len(keys) >= 2:
        drawn += [_heat(folder, jobs, keys, name) for name in names]
    drawn.append(_front(folder, jobs, names))
    return files + [path for path in drawn if path is not None]


def sample_grid(folder: Path, columns: int) -> Path:
    """Write ``sweep.png`` into the folder of a sweep of ``bigr.sample``: a row of images per job.

    The images have the same seeds in all rows, and each row its settings before it.

    Raises:
        ValueError: if no job has images.
    """
    jobs = read_jobs(folder)
    keys = swept_keys(jobs)
    rows = []
    for job in jobs:
        paths = sorted((job.folder / "images").glob("*.png"))[:columns]
        label = ", ".join(f"{_short(key)} {job.overrides.get(key, '')}" for key in keys)
        if paths:
            rows.append((label or job.name, [load_picture(path) for path in paths]))
    if not rows:
        raise ValueError(f"none of the jobs in {folder} has made images.")
    target = folder / f"{TABLE}.png"
    return save_picture(labelled_rows(rows), target)


def _are_numbers(jobs: Sequence[SweepJob], key: str) -> bool:
    try:
        return all(float(job.overrides[key]) is not None for job in jobs)
    except (KeyError, ValueError):
        return False


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1].replace("_", " ")


def _curves(folder: Path, jobs: Sequence[SweepJob], keys: list[str], name: str) -> Path | None:
    """``name`` over the first key, a line for each value of the second."""
    lines: dict[str, dict[float, float]] = {}
    for job in jobs:
        if job.figures and name in job.figures:
            line = job.overrides[keys[1]] if len(keys) > 1 else ""
            lines.setdefault(line, {})[float(job.overrides[keys[0]])] = job.figures[name]
    if not lines:
        return None
    legend = _short(keys[1]) if len(keys) > 1 else ""
    return plots.lines(
        folder / f"{TABLE}_{name}.png", lines, x=_short(keys[0]), y=name, legend=legend
    )


def _heat(folder: Path, jobs: Sequence[SweepJob], keys: list[str], name: str) -> Path | None:
    """``name`` over the first two keys."""
    by_place: dict[tuple[str, str], float] = {}
    for job in jobs:
        if job.figures and name in job.figures:
            by_place[job.overrides[keys[1]], job.overrides[keys[0]]] = job.figures[name]
    if not by_place:
        return None
    rows, columns = (sorted({job.overrides[key] for job in jobs}, key=float) for key in keys[1::-1])
    values = [[by_place.get((row, column)) for column in columns] for row in rows]
    return plots.heat_map(
        folder / f"{TABLE}_{name}_map.png",
        values,
        rows=rows,
        columns=columns,
        x=_short(keys[0]),
        y=_short(keys[1]),
        title=name,
    )


def _front(folder: Path, jobs: Sequence[SweepJob], names: list[str]) -> Path | None:
    """FID against IS, or what takes their places in another feature space."""
    for x, y in (("fid", "is"), ("digits_frechet", "digits_score")):
        if x in names and y in names:
            keys = swept_keys(jobs)
            points: list[tuple[float, float, str]] = []
            for job in jobs:
                figures: dict[str, Any] = job.figures or {}
                if x in figures and y in figures:
                    label = ", ".join(job.overrides.get(key, "") for key in keys)
                    points.append((figures[x], figures[y], label))
            return plots.front(folder / f"{TABLE}_front.png", points, x=x, y=y)
    return None
