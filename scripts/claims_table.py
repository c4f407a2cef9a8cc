"""The tables and plots of docs/claims.md from the results of scripts/claims.py."""

from __future__ import annotations

import collections
import json
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bigr.data.files import write_atomically
from bigr.evaluation.plots import lines

NAMES = {
    "s0": "S0: softmax, causal",
    "s1": "S1: softmax, masked",
    "s2": "S2: bits, causal",
    "s3": "S3: bits, masked (BiGR)",
    "direct": "bits predicted directly, without diffusion",
    "x0": "clean bits by diffusion",
    "unconditional": "S3 without classes",
    "likelier": "S3 on the more likely bits",
}
SCORES = ("accuracy", "frechet", "precision", "recall")
HEADER = ("row", "seeds", "accuracy", "Fréchet distance", "precision", "recall")


def write_tables(results: Path, page: Path) -> None:
    """Replace the part of a page that belongs to a data set, and draw its plots.

    Args:
        results: folder with the results ``ROW-SEED.json`` and ``references.json``; its name is that
            of the data set.
        page: Markdown with the comments ``<!-- results: NAME -->`` and ``<!-- end: NAME -->``,
            between which the tables are written.

    Raises:
        ValueError: if the page has no such place.
    """
    found = load_results(results)
    references = json.loads((results / "references.json").read_text())
    parts = [main_table(found, references)]
    if found.keys() & {"direct", "x0", "likelier", "unconditional"}:
        parts.append(objective_table(found))
    if "sampling" in found:
        parts.append(sampling_table(found))
    parts.append(probe_table(found, references))
    name = results.name
    text = f"<!-- results: {name} -->\n\n" + "\n\n".join(parts) + f"\n\n<!-- end: {name} -->"
    pattern = rf"<!-- results: {name} -->.*<!-- end: {name} -->"
    old = page.read_text()
    if not re.search(pattern, old, flags=re.DOTALL):
        raise ValueError(f"{page} has no place for the results of {name}.")
    new = re.sub(pattern, lambda _: text, old, flags=re.DOTALL)
    write_atomically(page, new.encode())
    for what, key in (("iterations", "num_iterations"), ("denoising steps", "num_denoise_steps")):
        curves: dict[str, dict[int, float]] = collections.defaultdict(dict)
        for result in found.get("s3", []) if "sampling" in found else []:
            usual = result["samples"][preset_setting(result)]
            curves[f"seed {result['seed']}"][result["sampler"][key]] = usual["frechet"]
        for result in found.get("sampling", []):
            for variant, scores in result["samples"].items():
                if variant.endswith(f" {what}"):
                    curves[f"seed {result['seed']}"][int(variant.split()[0])] = scores["frechet"]
        if curves:
            file = results / f"{what.replace(' ', '_')}.png"
            ordered = {name: dict(sorted(curve.items())) for name, curve in curves.items()}
            lines(file, ordered, x=what, y="Fréchet distance", log_x=True)


def load_results(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the results of each row in the order of their seeds.

    Trainings of another length than most of them are left out.
    """
    read = [json.loads(path.read_text()) for path in sorted(results.glob("*-*.json"))]
    if not read:
        return {}
    (steps, _), *_ = collections.Counter(result["steps"] for result in read).most_common()
    found = collections.defaultdict(list)
    for result in sorted(read, key=lambda result: result["seed"]):
        if result["steps"] == steps:
            found[result["row"]].append(result)
    return dict(found)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the mean of a few values, with their range if there are several."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines_ = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines_)


def score_cells(samples: Sequence[dict[str, float]]) -> list[str]:
    """Return the cells of the scores of the same setting with several seeds."""
    return [spread([one[name] for one in samples], 2) for name in SCORES]


def best_setting(runs: Sequence[dict[str, Any]]) -> str:
    """Return the name of the setting with the lowest Frechet distance, on average over seeds."""

    def distance(name: str) -> float:
        return statistics.fmean(run["samples"][name]["frechet"] for run in runs)

    return min(runs[0]["samples"], key=distance)


def preset_setting(run: dict[str, Any]) -> str:
    """Return the name of the setting with the guidance scale of conf/sampler/claims.yaml."""
    return f"guidance {run['sampler']['guidance_scale']:g}"


def main_table(found: dict[str, list[dict[str, Any]]], references: dict[str, Any]) -> str:
    """Return the table of S0 to S3, each at its best guidance scale."""
    rows = []
    for name in ("s0", "s1", "s2", "s3"):
        if runs := found.get(name):
            best = best_setting(runs)
            samples = [run["samples"][best] for run in runs]
            rows.append(
                [
                    NAMES[name],
                    f"{runs[0]['parameters']:,}",
                    str(len(runs)),
                    best.removeprefix("guidance "),
                    *score_cells(samples),
                    spread([1000 * one["cpu_seconds"] for one in samples], 1),
                    f"{statistics.fmean(one['gflop'] for one in samples):.3f}",
                ]
            )
    limit = references["reconstructions"]
    cells = [f"{limit[score]:.2f}" for score in SCORES]
    rows.append(["test images, reconstructed", "", "", "", *cells, "", ""])
    header = [HEADER[0], "parameters", HEADER[1], "guidance", *HEADER[2:]]
    return table([*header, "CPU ms per image", "GFLOP per image"], rows)


def objective_table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of the objectives and of the codes, each at its best guidance scale."""
    rows = []
    for name in ("direct", "x0", "s3", "likelier", "unconditional"):
        if runs := found.get(name):
            best = best_setting(runs)
            cells = score_cells([run["samples"][best] for run in runs])
            cells[0] = "" if name == "unconditional" else cells[0]
            rows.append([NAMES[name], str(len(runs)), *cells])
    return table(HEADER, rows)


def sampling_table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of the ways of sampling S3."""
    runs, usual = found.get("sampling", []), found.get("s3", [])
    rows = []
    if usual:
        samples = [run["samples"][preset_setting(run)] for run in usual]
        cost = f"{statistics.fmean(one['gflop'] for one in samples):.3f}"
        name = "by confidence, 8 iterations, 25 denoising steps"
        rows.append([name, str(len(samples)), *score_cells(samples), cost])
    for name in runs[0]["samples"] if runs else ():
        samples = [run["samples"][name] for run in runs]
        cost = f"{statistics.fmean(one['gflop'] for one in samples):.3f}"
        rows.append([name, str(len(samples)), *score_cells(samples), cost])
    return table([*HEADER, "GFLOP per image"], rows)


def probe_table(found: dict[str, list[dict[str, Any]]], references: dict[str, Any]) -> str:
    """Return the table of the linear probes, at the best layer of each row."""
    rows = []
    for name, text in NAMES.items():
        if runs := found.get(name):
            layers = zip(*(run["probe"] for run in runs), strict=True)
            accuracies = max(layers, key=statistics.fmean)
            rows.append([text, str(len(runs)), spread(accuracies, 3)])
    for run in found.get("s3", []):
        if "probe_untrained" in run:
            rows.append(["S3 before training", "1", f"{max(run['probe_untrained']):.3f}"])
    rows.append(["bit probabilities of the B-AE, averaged", "", f"{references['probe_bits']:.3f}"])
    rows.append(["pixels", "", f"{references['probe_pixels']:.3f}"])
    return table(["features", "seeds", "accuracy of the linear probe"], rows)
