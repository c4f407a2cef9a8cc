"""Figures of sets of images from their features, how they vary by chance, and their table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bigr.evaluation.feature_chunks import FeatureChunks
from bigr.evaluation.fidelity_names import THOUSANDTHS, metric_name, metric_title
from bigr.evaluation.image_supplies import ImageSupply
from bigr.evaluation.report_text import INTERVAL, SPREAD
from bigr.metrics.features import FeatureNetwork, Features
from bigr.metrics.resampling import (
    NORMAL_95,
    PartialScores,
    StandardError,
    compare_sets,
    standard_errors,
)
from bigr.metrics.statistics import FeatureStatistics, Reference, compare

MEASURED = "measured"
SHOWN = 64
"""Number of images in the picture of a set."""
COLUMNS = (
    *(MEASURED, "minimum", SPREAD, INTERVAL),
    *("against", "difference", "p", "beyond chance"),
    *("published", "tolerance", "agrees"),
)
"""Headings of the table; those without an entry are left out."""
RANGES = {
    **dict.fromkeys(("fid", "sfid", "density"), (0.0, math.inf)),
    **dict.fromkeys(("precision", "recall", "coverage"), (0.0, 1.0)),
}
"""Possible values of figures, to which intervals are cut."""
Cells = dict[str, dict[str, str]]
"""Cells of a table by name of the figure and heading."""


class SetFigures(NamedTuple):
    """Figures of one set of images, and the features they were computed from."""

    values: dict[str, float]
    features: Features


def set_figures(
    chunks: FeatureChunks,
    labels: Tensor | None,
    network: FeatureNetwork,
    reference: Reference,
    device: torch.device | str,
    *,
    keeps_spatial: bool = True,
) -> SetFigures:
    """Compute the figures of a set from its files of features.

    Args:
        chunks: the files.
        labels: classes (n,) of the images, for the accuracy of networks that read classes.
        network: network that computed the features.
        reference: statistics of real images.
        device: device of the computation.
        keeps_spatial: whether to return the features for sFID, which only resampling needs.
    """
    statistics = FeatureStatistics(device=device)
    parts: list[Features] = []
    for features in chunks.features():
        statistics.update(features)
        parts.append(features if keeps_spatial else features._replace(spatial=None))
    columns = [None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True)]
    whole = Features._make(columns)
    values = compare(statistics, reference, device=device)
    if network.prefix and labels is not None and whole.logits is not None:
        values["accuracy"] = float((whole.logits.argmax(dim=1) == labels).double().mean())
    return SetFigures(values, whole)


def cells_of_repeats(sets: Sequence[SetFigures]) -> tuple[dict[str, float], dict[str, Any], Cells]:
    """Return the means of repetitions, everything about them as plain data, and cells.

    The spread is the standard deviation (with n - 1).
    """
    names = list(sets[0].values)
    found = {
        name: torch.tensor([one.values[name] for one in sets], dtype=torch.float64)
        for name in names
    }
    means = {name: float(values.mean()) for name, values in found.items()}
    about: dict[str, Any] = {
        name: {
            "values": values.tolist(),
            "minimum": float(values.min()),
            "mean": means[name],
            "spread": float(values.std()),
        }
        for name, values in found.items()
    }
    cells = {
        name: {heading: shown(name, one[heading]) for heading in ("minimum", SPREAD)}
        for name, one in about.items()
    }
    return means, about, cells


def cells_of_intervals(
    one: SetFigures, reference: Reference, resamples: int, device: torch.device | str
) -> tuple[dict[str, StandardError], dict[str, Any], Cells]:
    """Return standard errors and 95% intervals of the figures of a fixed set, and cells."""
    found = standard_errors(PartialScores(one.features, reference, device), resamples)
    errors = {
        name: StandardError(error, resamples - 1)
        for name, error in found.items()
        if math.isfinite(error)
    }
    about = {}
    for name, (error, _) in errors.items():
        value, margin = one.values[name], NORMAL_95 * error
        lowest, highest = RANGES.get(name, (-math.inf, math.inf))
        about[name] = [max(lowest, value - margin), min(highest, value + margin)]
    cells = {
        name: {INTERVAL: f"{shown(name, low)} to {shown(name, high)}"}
        for name, (low, high) in about.items()
    }
    return errors, about, cells


def cells_of_comparison(
    sets: Sequence[SetFigures], reference: Reference, resamples: int, device: torch.device | str
) -> tuple[dict[str, Any], Cells]:
    """Return how two sets differ, and whether by more than chance, as plain data and as cells."""
    one, other = sets
    both = Features._make(
        None if part is None or added is None else torch.cat([part, added])
        for part, added in zip(one.features, other.features, strict=True)
    )
    scores = PartialScores(both, reference, device)
    found = compare_sets(scores, len(one.features.pool), resamples)
    about: dict[str, Any] = {}
    cells: Cells = {}
    for name, value in one.values.items():
        difference = value - other.values[name]
        about[name] = {"against": other.values[name], "difference": difference}
        cells[name] = {
            "against": shown(name, other.values[name]),
            "difference": shown(name, difference),
        }
        if name in found:
            result = found[name]
            about[name] |= {"p": result.p, "is_significant": result.is_significant}
            cells[name] |= {
                "p": f"{result.p:.3f}",
                "beyond chance": "yes" if result.is_significant else "no",
            }
    return about, cells


def cells_of_published(
    values: Mapping[str, float], published: Mapping[str, float], tolerance: Mapping[str, float]
) -> Cells:
    """Return the cells that compare figures with published ones."""
    cells: Cells = {}
    for name in values.keys() & published.keys():
        cells[name] = {"published": f"{published[name]:g}"}
        if name in tolerance:
            agrees = abs(values[name] - published[name]) <= tolerance[name]
            cells[name] |= {
                "tolerance": f"{tolerance[name]:g}",
                "agrees": "yes" if agrees else "NO",
            }
    return cells


def shown(name: str, value: float) -> str:
    """Return a figure as it is printed."""
    return f"{value * 1000 if name in THOUSANDTHS else value:.4g}"


def table(
    values: Mapping[str, float], network: FeatureNetwork, count: int, *cells: Cells
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the headings that have an entry, and the rows of the table."""
    known: Cells = {name: {MEASURED: shown(name, value)} for name, value in values.items()}
    for part in cells:
        for name, entries in part.items():
            known[name] |= entries
    used = tuple(
        heading for heading in COLUMNS if any(heading in entries for entries in known.values())
    )
    return used, [
        (metric_title(name, network, count), *(entries.get(heading, "") for heading in used))
        for name, entries in known.items()
    ]


def renamed(values: Mapping[str, Any], network: FeatureNetwork) -> dict[str, Any]:
    """Return values by the names that figures have in the results."""
    return {metric_name(name, network): value for name, value in values.items()}


def shown_images(chunks: FeatureChunks, supply: ImageSupply) -> tuple[list[int], Tensor, Tensor]:
    """Return the numbers of a few images of a set, the images, and their features.

    The images are (n, 3, H, W) uint8 with n up to 64. They are read again, or taken from the files
    of features.
    """
    numbers = supply.shown(SHOWN)
    images: list[Tensor] = []
    points: list[Tensor] = []
    names = ("pool",) if supply.can_repeat() else ("pool", "images")
    for held, arrays in zip(chunks.ranges(), chunks.read(*names), strict=True):
        inside = [number - held.start for number in numbers if number in held]
        if inside:
            points.append(torch.from_numpy(arrays["pool"])[inside])
            images += [torch.from_numpy(arrays["images"])[inside]] if "images" in names else []
    if supply.can_repeat():
        images = [one for number in numbers for one in supply.batches(range(number, number + 1))]
    return numbers, torch.cat(images), torch.cat(points)
