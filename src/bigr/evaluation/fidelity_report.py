"""The report of a comparison of images with real ones, from the figures of its sets of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bigr.data.image_arrays import to_float
from bigr.evaluation.fidelity_figures import (
    Cells,
    SetFigures,
    cells_of_comparison,
    cells_of_intervals,
    cells_of_published,
    cells_of_repeats,
    renamed,
    table,
)
from bigr.evaluation.fidelity_names import explanations, metric_name, metric_title
from bigr.evaluation.fidelity_settings import FidelitySettings
from bigr.evaluation.nearest import NUM_COLUMNS, NearestImages
from bigr.evaluation.report import Curve, Report
from bigr.metrics.features import FeatureNetwork
from bigr.metrics.resampling import StandardError
from bigr.metrics.statistics import Reference, frechet_by_count

SHORT = 12
"""Number of digits of a checksum that are shown."""
CURVE = "frechet_by_count.png"


@dataclass(frozen=True)
class ComparedSets:
    """What was compared.

    Args:
        sets: figures of the sets of images: repetitions, or the samples and those ``against`` them.
        network: network that computed the features.
        reference: statistics of real images.
        image_size: side of the images.
        source: where the images come from, in words.
        device: device for further computations.
    """

    sets: Sequence[SetFigures]
    network: FeatureNetwork
    reference: Reference
    image_size: int
    source: str
    device: torch.device | str


def comparison_report(compared: ComparedSets, settings: FidelitySettings) -> Report:
    """Put the figures of all sets together."""
    sets, network, reference = compared.sets, compared.network, compared.reference
    values, points = sets[0].values, sets[0].features.pool
    count, dim = points.shape
    # 1. How much the figures vary by chance.
    more: dict[str, Any] = {}
    errors: dict[str, StandardError] = {}
    cells: list[Cells] = []
    resampled = reference, settings.num_resamples, compared.device
    if settings.against is not None:
        more["against"] = settings.against
        comparison, found = cells_of_comparison(sets, *resampled)
        more["comparison"] = renamed(comparison, network)
        cells.append(found)
    elif len(sets) > 1:
        values, about, found = cells_of_repeats(sets)
        more["repeats"] = renamed(about, network)
        spread = len(sets) ** -0.5
        errors = {
            name: StandardError(one["spread"] * spread, len(sets) - 1)
            for name, one in about.items()
        }
        cells.append(found)
    elif settings.num_resamples:
        errors, intervals, found = cells_of_intervals(sets[0], *resampled)
        more["intervals"] = renamed(intervals, network)
        cells.append(found)
    # 2. How they depend on the number of images.
    by_count = frechet_by_count(points, reference, compared.device)
    by_count[count] = sets[0].values["fid"]
    title = metric_title("fid", network)
    cells.append(cells_of_published(values, settings.published, settings.tolerance))
    columns, lines = table(values, network, count, *cells)
    return Report(
        metrics={
            "count": count,
            "samples": settings.samples,
            "network": {"name": network.title, "sha256": network.identity},
            "reference": {"path": settings.reference, **reference.identity},
            "published": dict(settings.published),
            f"{metric_name('fid', network)}_by_count": by_count,
            "seed": settings.seed,
            **more,
        },
        figures=renamed(values, network),
        rows=lines,
        columns=columns,
        notes=explanations(values, network, count, dim),
        setting=_setting(compared, settings, count),
        conditions={
            "number of images": count,
            "image size": compared.image_size,
            "network": f"{network.title} {network.identity[:SHORT]}",
            "reference": str(reference.identity.get("source", settings.reference))[:SHORT],
        },
        errors=renamed(errors, network),
        curves={CURVE: Curve("images", title, by_count, is_log=True)} if len(by_count) > 1 else {},
        captions={CURVE: f"{title} of random images of the set, by their number"},
    )


def add_pictures(
    report: Report, images: Tensor, nearest: NearestImages | None, network: FeatureNetwork
) -> None:
    """Add a few images, and those of them that are most similar to training images.

    Args:
        report: report about the set of images.
        images: a few of its images, (n, 3, H, W) uint8.
        nearest: some of them, with their nearest training images; None if there are none.
        network: network in whose feature space the distances were measured.
    """
    report.pictures["samples.png"] = (to_float(images), NUM_COLUMNS)
    report.captions["samples.png"] = f"{len(images)} images"
    if nearest is not None:
        nearest.add_to(report, f"the feature space of {network.title}")


def _setting(compared: ComparedSets, settings: FidelitySettings, count: int) -> str:
    """Return what was compared, in sentences for a paper."""
    network, identity = compared.network, compared.reference.identity
    made = f" ({identity['count']:,} images)" if "count" in identity else ""
    text = (
        f"{count:,} images of {compared.image_size}x{compared.image_size} pixels, "
        f"{compared.source}, were compared with {settings.reference}{made} in the feature space of "
        f"{network.title} (SHA-256 {network.identity[:SHORT]})."
    )
    if settings.against is not None:
        return (
            f"{text} They were also compared with equally many images of {settings.against} by a "
            f"permutation test with {settings.num_resamples} divisions."
        )
    if len(compared.sets) > 1:
        return f"{text} Scores are means ± standard deviations of {len(compared.sets)} such sets."
    if settings.num_resamples:
        return (
            f"{text} Brackets are 95% intervals, from {settings.num_resamples} random halves of "
            "the images."
        )
    return text
