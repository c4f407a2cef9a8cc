"""One table of several finished evaluations, with tests of their differences.

Every run is compared with the first one. A figure that has a standard error in both runs, from
repetitions or from resampling, is tested by Welch's t-test. Runs whose figures cannot be compared,
because they have another network, reference or number of images, are named and not tested.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bigr.data.files import write_atomically
from bigr.data.sealed_json import DamagedFileError, read_sealed, seal
from bigr.evaluation.report_text import markdown_table
from bigr.metrics.resampling import StandardError

METRICS = "metrics.json"
SIGNIFICANCE = 0.05
"""Probability that the test of one figure finds a difference between two equal runs."""
NO_ERRORS = (
    "Figures without an entry for p have no standard error in one of the runs: add "
    "evaluation.repeats=3, or evaluation.resamples=100 for a fixed set of samples."
)
SEPARATE = (
    f"Each difference is tested separately at {SIGNIFICANCE:.0%}, so among many differences a few "
    "may appear significant by chance. The test is cautious for runs with the same seeds."
)


@dataclass(frozen=True)
class EvaluatedRun:
    """The results and conditions of a finished evaluation."""

    name: str
    figures: dict[str, float]
    conditions: dict[str, Any] | None
    """What the runs must have in common; None in files of older versions."""
    errors: dict[str, StandardError]
    summary: str


@dataclass(frozen=True)
class RunDifference:
    """The difference of a figure between a run and the first one."""

    run: str
    figure: str
    difference: float
    error: float | None
    """Its standard error; None if one of the runs has none, or the runs cannot be compared."""
    p: float | None
    """Probability that equal runs differ at least as much."""

    @property
    def verdict(self) -> str:
        """Whether the difference is beyond chance: yes, no, or empty if that is unknown."""
        if self.p is None:
            return ""
        return "yes" if self.p <= SIGNIFICANCE else "no"


def read_run(path: Path) -> EvaluatedRun:
    """Read the results in the folder of an evaluation, or in its ``metrics.json``.

    Raises:
        ValueError: if there are none, or they are damaged.
    """
    file = path / METRICS if path.is_dir() else path
    try:
        found = read_sealed(file)
        errors = {name: StandardError(**one) for name, one in found.get("errors", {}).items()}
        return EvaluatedRun(
            str(path),
            dict(found["figures"]),
            found.get("conditions"),
            errors,
            found.get("summary", ""),
        )
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} is not the folder of a finished evaluation: there is no {file}."
        ) from error
    except DamagedFileError as error:
        raise ValueError(f"{error}: run that evaluation again.") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} was not written by an evaluation.") from error


def mismatch(first: EvaluatedRun, other: EvaluatedRun) -> str | None:
    """Return a sentence about why two runs cannot be compared; None if they can."""
    for run in (first, other):
        if run.conditions is None:
            return (
                f"{other.name} is not compared with {first.name}: {run.name} comes from an older "
                "version, which did not record its network, reference and number of images."
            )
    ours, theirs = first.conditions or {}, other.conditions or {}
    differing = [
        f"{name} ({ours.get(name, 'none')} and {theirs.get(name, 'none')})"
        for name in ours | theirs
        if ours.get(name) != theirs.get(name)
    ]
    if not differing:
        return None
    return (
        f"{other.name} is not compared with {first.name}, because they differ in "
        f"{', '.join(differing)}."
    )


def welch(difference: float, one: StandardError, other: StandardError) -> tuple[float, float]:
    """Return the standard error of a difference, and the p-value of Welch's t-test, two-sided."""
    from scipy.stats import t

    squares = [one.error**2, other.error**2]
    error = math.sqrt(sum(squares))
    if error == 0:
        return 0.0, float(difference == 0)
    parts = zip(squares, (one.freedom, other.freedom), strict=True)
    freedom = error**4 / sum(square**2 / freedom for square, freedom in parts)
    return error, float(2 * t.sf(abs(difference) / error, freedom))


def run_differences(
    runs: Sequence[EvaluatedRun],
) -> tuple[list[RunDifference], list[str]]:
    """Compare every run with the first one; return the differences, and sentences about mismatches.

    Figures of runs that cannot be compared have no difference.
    """
    first, *others = runs
    differences, mismatches = [], []
    for run in others:
        problem = mismatch(first, run)
        if problem is not None:
            mismatches.append(problem)
            continue
        for name in (name for name in first.figures if name in run.figures):
            difference = run.figures[name] - first.figures[name]
            error = p = None
            if name in first.errors and name in run.errors:
                error, p = welch(difference, first.errors[name], run.errors[name])
            differences.append(RunDifference(run.name, name, difference, error, p))
    return differences, mismatches


def tables_of(
    runs: Sequence[EvaluatedRun], differences: Sequence[RunDifference]
) -> list[tuple[list[str], list[list[str]]]]:
    """Return headings and rows of a table of all figures, and of one of the differences."""
    # 1. The conditions, then the figures, with one column for each run.
    names = dict.fromkeys(name for run in runs for name in run.conditions or {})
    rows = [
        [name, *(_shown((run.conditions or {}).get(name, "")) for run in runs)] for name in names
    ]
    figures = dict.fromkeys(name for run in runs for name in run.figures)
    for name in figures:
        cells = []
        for run in runs:
            cell = f"{run.figures[name]:.5g}" if name in run.figures else ""
            if name in run.errors:
                cell += f" ± {run.errors[name].error:.2g}"
            cells.append(cell)
        rows.append([name, *cells])
    found = [(["", *(run.name for run in runs)], rows)]
    # 2. The differences, without columns that are empty.
    if differences:
        has_error = any(one.p is not None for one in differences)
        headings = ["figure", "run", f"difference from {runs[0].name}"]
        headings += ["standard error", "p", "beyond chance"] if has_error else []
        lines = []
        for one in differences:
            tested = ["", "", ""]
            if one.p is not None:
                tested = [
                    f"{one.error:.2g}",
                    "< 0.001" if one.p < 0.001 else f"{one.p:.3f}",
                    one.verdict,
                ]
            line = [one.figure, one.run, f"{one.difference:+.4g}", *tested]
            lines.append(line[: len(headings)])
        found.append((headings, lines))
    return found


def notes_of(differences: Sequence[RunDifference], mismatches: Sequence[str]) -> list[str]:
    """Return the sentences below the tables."""
    notes = list(mismatches)
    if any(one.p is not None for one in differences):
        notes.append(SEPARATE)
    if any(one.p is None for one in differences):
        notes.append(NO_ERRORS)
    return notes


def write_comparison(runs: Sequence[EvaluatedRun], output: Path) -> list[Path]:
    """Write ``comparison.md``, ``comparison.json`` and ``comparison.csv``, and return their paths.

    The CSV file has one line for each run and figure.
    """
    differences, mismatches = run_differences(runs)
    notes = notes_of(differences, mismatches)
    output.mkdir(parents=True, exist_ok=True)
    paths = [output / f"comparison.{suffix}" for suffix in ("md", "json", "csv")]
    # 1. Markdown.
    tables = [markdown_table(*table) for table in tables_of(runs, differences)]
    summaries = [f"{run.name}: {run.summary}" for run in runs if run.summary]
    parts = ["# Comparison", *tables, *notes, "## Runs", *summaries]
    write_atomically(paths[0], ("\n\n".join(part.rstrip() for part in parts) + "\n").encode())
    # 2. JSON.
    content = {
        "runs": [asdict(run) for run in runs],
        "differences": [{**asdict(one), "beyond_chance": one.verdict} for one in differences],
        "notes": notes,
    }
    write_atomically(paths[1], seal(content))
    # 3. CSV.
    known = {(one.run, one.figure): one for one in differences}
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["run", "figure", "value", "standard_error", "difference", "p", "beyond_chance"])
    for run in runs:
        for name, value in run.figures.items():
            one = known.get((run.name, name))
            error = run.errors[name].error if name in run.errors else ""
            tested = [one.difference, "" if one.p is None else one.p, one.verdict] if one else []
            table.writerow([run.name, name, value, error, *(tested or [""] * 3)])
    write_atomically(paths[2], text.getvalue().encode())
    return paths


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
