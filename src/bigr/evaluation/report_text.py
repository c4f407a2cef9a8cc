"""Reports as text: Markdown, a row for LaTeX, and a summary that can be pasted into a paper."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from bigr.evaluation.report import Report
from bigr.sampling.sampler_config import SamplerConfig

SPREAD = "spread"
INTERVAL = "95% interval"
"""Headings of the columns that are added to the scores for a paper."""
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
MAIN_SETTINGS = ("guidance_scale", "num_iterations", "num_denoise_steps", "gumbel_temperature")
MAX_SCORES = 12
"""Number of scores up to which the summary lists all of them."""


def used_columns(
    columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows without the columns that have no entry.

    Args:
        columns: headings, without that of the names.
        rows: a name, then one cell for each of ``columns``.
    """
    is_used = [any(cells) for cells in zip(*(row[1:] for row in rows), strict=True)]
    headings = ["metric", *itertools.compress(columns, is_used)]
    return headings, [[row[0], *itertools.compress(row[1:], is_used)] for row in rows]


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with the first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (headings, rule, *rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def latex(text: str) -> str:
    """Return text whose special characters are escaped for LaTeX."""
    return "".join(LATEX.get(character, character) for character in text)


def scores(report: Report) -> dict[str, str]:
    """Return the scores for a paper by title, with their ± spread or [interval] if there is one."""
    if report.headline:
        return report.headline
    found = {}
    for title, *cells in report.rows:
        by_heading = dict(zip(report.columns, cells, strict=True))
        value = by_heading[report.columns[0]]
        if by_heading.get(SPREAD):
            value += f" ± {by_heading[SPREAD]}"
        if by_heading.get(INTERVAL):
            value += f" [{by_heading[INTERVAL].replace(' to ', ', ')}]"
        if value:
            found[title] = value
    return found


def summary(report: Report) -> str:
    """Return what was measured and the scores, as sentences for a paper."""
    found = scores(report)
    shown = itertools.islice(found.items(), MAX_SCORES)
    listed = "; ".join(f"{title}: {value}" for title, value in shown)
    more = len(found) - MAX_SCORES
    listed += f"; and {more} more" if more > 0 else ""
    return " ".join(part for part in (report.setting, f"{listed}." if listed else "") if part)


def latex_row(name: str, found: Mapping[str, str]) -> str:
    """Return a heading, as a comment, and a row of a LaTeX table with scores by title."""
    values = (value.replace("±", r"$\pm$") for value in map(latex, found.values()))
    return f"% {' & '.join(['', *found])}\n{' & '.join([latex(name), *values])} \\\\"


def report_markdown(report: Report, title: str, files: Sequence[str]) -> str:
    """Return the text of ``report.md``.

    Args:
        report: the result of an evaluation.
        title: what was evaluated.
        files: names of the files that the evaluation has written besides the report.
    """
    headings, rows = used_columns(report.columns, report.rows)
    found = scores(report)
    # 1. The scores, and what they mean.
    lines = [f"# Evaluation of {title}", ""]
    lines += [report.setting, ""] if report.setting else []
    lines += [markdown_table(headings, rows)] if rows else []
    for note in report.notes:
        lines += [note, ""]
    # 2. The same for a paper.
    lines += ["## For a paper", "", summary(report), ""]
    if found:
        lines += [markdown_table(["", *found], [[title, *found.values()]])]
        lines += ["```latex", latex_row(title, found), "```", ""]
    # 3. Pictures and plots, and links to the other files.
    captions = {"metrics.json": "the same as data", **report.captions}
    for name in files:
        if Path(name).suffix == ".png":
            shown = Path(name).stem.replace("_", " ").capitalize()
            lines += [f"## {shown}", "", f"![{shown}]({name})", ""]
            lines += [f"{captions[name]}.", ""] if name in captions else []
    others = ["metrics.json", *(name for name in files if Path(name).suffix != ".png")]
    links = (f"[{name}]({name})" for name in others)
    about = (f": {captions[name]}" if name in captions else "" for name in others)
    lines += ["## Files", "", *(f"- {link}{text}" for link, text in zip(links, about, strict=True))]
    return "\n".join(lines) + "\n"


def sampler_text(sampler: SamplerConfig) -> str:
    """Return the settings of a sampler in words: the main ones, and others that are not default."""
    found, defaults = sampler.to_dict(), SamplerConfig().to_dict()
    words = []
    for name, value in found.items():
        if name in MAIN_SETTINGS or value != defaults[name]:
            shown = value["class"].rpartition(".")[2] if isinstance(value, dict) else value
            words.append(f"{name.removeprefix('num_').replace('_', ' ')} {shown}")
    return ", ".join(words)
