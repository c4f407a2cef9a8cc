"""One table and a few plots from the folders of a sweep's jobs, finished or not."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bigr.data.files import write_atomically
from bigr.data.image_arrays import labelled_rows, load_picture, save_picture
from bigr.data.sealed_json import DamagedFileError, read_sealed
from bigr.evaluation import plots
from bigr.evaluation.report_text import markdown_table

log = logging.getLogger(__name__)

METRICS = "metrics.json"
LOWER_IS_BETTER = ("fid", "sfid", "kid", "frechet", "kernel", "copies", "l1", "lpips", "rfid")
FRONTS = (("fid", "is"), ("digits_frechet", "digits_score"))
"""Pairs of figures (less is better, more is better) that are drawn against each other."""
TABLE = "sweep"


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep."""

    name: str
    folder: Path
    overrides: dict[str, str]
    """Overrides of the command line that this job ran with."""
    figures: dict[str, float]
    """Empty if the job is not finished."""
    is_finished: bool


def read_jobs(folder: Path) -> list[SweepJob]:
    """Return all jobs in the folder of a sweep, by number.

    A job whose results are damaged counts as not finished.

    Raises:
        ValueError: if there are none.
    """
    jobs = []
    for path in folder.glob("*/.hydra/overrides.yaml"):
        place = path.parents[1]
        pairs = [line[2:].strip().strip("'\"") for line in path.read_text().splitlines()]
        overrides = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        figures = _figures(place / METRICS)
        jobs.append(SweepJob(place.name, place, overrides, figures or {}, figures is not None))
    if not jobs:
        raise ValueError(
            f"{folder} contains no jobs of a sweep (<folder>/0/.hydra/overrides.yaml)."
        )
    return sorted(
        jobs, key=lambda job: (int(job.name), "") if job.name.isdigit() else (10**9, job.name)
    )


def _figures(path: Path) -> dict[str, float] | None:
    """Return the figures of a job; None if it has not written them, or they are damaged."""
    try:
        return dict(read_sealed(path).get("figures", {}))
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        log.warning("%s: run the job again", error)
        return None


def swept_keys(jobs: Sequence[SweepJob]) -> list[str]:
    """Return the overrides that differ between jobs, those with the most values first."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    values = {key: {job.overrides.get(key) for job in jobs} for key in keys}
    return sorted((key for key in keys if len(values[key]) > 1), key=lambda key: -len(values[key]))


def is_better(name: str) -> int:
    """Return 1 if higher values of a figure are better, and -1 if lower ones are."""
    return -1 if name.rsplit("_", 1)[-1] in LOWER_IS_BETTER else 1


def best_job(jobs: Sequence[SweepJob], figure: str) -> SweepJob:
    """Return the finished job with the best ``figure``.

    Raises:
        ValueError: if no finished job has it.
    """
    found = [job for job in jobs if figure in job.figures]
    if not found:
        known = ", ".join(sorted(set(_figure_names(jobs)))) or "none"
        raise ValueError(f"no finished job has the score {figure}; available are {known}.")
    return max(found, key=lambda job: is_better(figure) * job.figures[figure])


def table(jobs: Sequence[SweepJob], digits: int = 6) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells: the job, what was swept, the figures, and the state.

    Args:
        jobs: all jobs of the sweep.
        digits: number of significant digits of the figures.
    """
    keys, names = swept_keys(jobs), _figure_names(jobs)
    rows = []
    for job in jobs:
        settings = [job.overrides.get(key, "") for key in keys]
        figures = [job.figures.get(name) for name in names]
        numbers = ["" if figure is None else f"{figure:.{digits}g}" for figure in figures]
        rows.append([job.name, *settings, *numbers, "done" if job.is_finished else "not finished"])
    return ["job", *keys, *names, "state"], rows


def summarise(folder: Path) -> list[Path]:
    """Write ``sweep.csv``, ``sweep.md`` and the plots into ``folder``, and return their paths.

    Raises:
        ValueError: if there are no jobs.
    """
    jobs = read_jobs(folder)
    headings, rows = table(jobs)
    files = [folder / f"{TABLE}.csv", folder / f"{TABLE}.md"]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([headings, *rows])
    write_atomically(files[0], text.getvalue().encode())
    write_atomically(files[1], markdown_table(headings, rows).encode())
    keys = [key for key in swept_keys(jobs) if _are_numbers(jobs, key)]
    drawn = []
    for name in _figure_names(jobs):
        found = [job for job in jobs if name in job.figures]
        drawn += [_curves(folder, found, keys, name)] if keys else []
        drawn += [_heat(folder, jobs, keys, name)] if len(keys) > 1 else []
    drawn += [_front(folder, jobs, *pair) for pair in FRONTS]
    return files + [path for path in drawn if path is not None]


def sample_grid(folder: Path, columns: int) -> Path:
    """Write ``sweep.png`` into the folder of a sweep of ``bigr.sample``: one row per job.

    Images in a column have the same seed. The settings of a job stand before its row.

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
        raise ValueError(f"none of the jobs in {folder} has written images.")
    return save_picture(labelled_rows(rows), folder / f"{TABLE}.png")


def _figure_names(jobs: Sequence[SweepJob]) -> list[str]:
    return list(dict.fromkeys(name for job in jobs for name in job.figures))


def _are_numbers(jobs: Sequence[SweepJob], key: str) -> bool:
    try:
        return all(float(job.overrides[key]) is not None for job in jobs)
    except (KeyError, ValueError):
        return False


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1].replace("_", " ")


def _curves(folder: Path, jobs: Sequence[SweepJob], keys: list[str], name: str) -> Path | None:
    """Draw ``name`` over the first key, with one line for each value of the second."""
    lines: dict[str, dict[float, float]] = {}
    for job in jobs:
        line = lines.setdefault(job.overrides[keys[1]] if len(keys) > 1 else "", {})
        line[float(job.overrides[keys[0]])] = job.figures[name]
    path, legend = folder / f"{TABLE}_{name}.png", _short(keys[1]) if len(keys) > 1 else ""
    return plots.lines(path, lines, x=_short(keys[0]), y=name, legend=legend)


def _heat(folder: Path, jobs: Sequence[SweepJob], keys: list[str], name: str) -> Path | None:
    """Draw ``name`` over the first two keys."""
    places = {(job.overrides[keys[1]], job.overrides[keys[0]]): job.figures for job in jobs}
    rows, columns = (sorted({job.overrides[key] for job in jobs}, key=float) for key in keys[1::-1])
    return plots.heat_map(
        folder / f"{TABLE}_{name}_map.png",
        [[places.get((row, column), {}).get(name) for column in columns] for row in rows],
        rows=rows,
        columns=columns,
        x=_short(keys[0]),
        y=_short(keys[1]),
        title=name,
    )


def _front(folder: Path, jobs: Sequence[SweepJob], x: str, y: str) -> Path | None:
    """Draw two figures against each other, if jobs have both."""
    keys = swept_keys(jobs)
    points = [
        (job.figures[x], job.figures[y], ", ".join(job.overrides.get(key, "") for key in keys))
        for job in jobs
        if x in job.figures and y in job.figures
    ]
    return plots.front(folder / f"{TABLE}_front.png", points, x=x, y=y) if points else None
