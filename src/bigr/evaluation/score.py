"""Comparison of two sets of images in one call, without a generator."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.fidelity import FidelityEvaluation
from bigr.evaluation.report import Report
from bigr.inference.progress import progress


def score(
    samples: str | Path,
    reference: str | Path,
    *,
    against: str | Path | None = None,
    network: str = "inception",
    weights: str | None = None,
    count: int | None = None,
    resamples: int | None = None,
    image_size: int | None = None,
    batch_size: int = 64,
    device: str = "auto",
    output: str | Path | None = None,
) -> Report:
    """Compare images with real ones: FID, sFID, IS, precision, recall, density, coverage and KID.

    This is what ``python -m bigr.evaluate samples=… reference=…`` computes.

    Example:
        >>> report = bigr.score("samples", "photos")
        >>> report.figures["fid"]

    Args:
        samples: a folder of images or of class folders, or an ``.npz`` with images ``arr_0``.
        reference: the same, or statistics such as ADM's ``VIRTUAL_imagenet256_labeled.npz``.
        against: other images to compare the samples with. The report then says, in ``metrics``
            under ``comparison``, whether the two sets differ by more than chance.
        network: whose features are compared: ``inception``, ``dinov2``, a network of the package
            timm, ``digits``, or ``own`` for a classifier of the classes of the reference.
        weights: file of the network's weights; None looks in torch's hub cache.
        count: number of samples; None takes all.
        resamples: random parts from which intervals (or the comparison) are estimated; None takes
            199 for a comparison, and none for a single set.
        image_size: side of the square to which samples in a folder are cropped, as ADM does; None
            expects squares of one size. Images of the reference are cropped to the same size.
        batch_size: images that are read at a time; it does not change the figures.
        device: ``auto``, ``cpu``, ``cuda`` or another device.
        output: folder for the features, so that an interrupted call can be repeated; None uses a
            temporary one.

    Returns:
        The report, with the ``figures`` by name and ``notes`` about surprising ones.

    Raises:
        ValueError: if images are missing, broken or of another size, or the reference does not fit.
    """
    evaluation = FidelityEvaluation(
        samples=str(samples),
        reference=str(reference),
        against=None if against is None else str(against),
        network=network,
        weights=weights,
        count=count,
        resamples=resamples,
        image_size=image_size,
        batch_size=batch_size,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if output is None else Path(output)
        context = EvaluationContext(output=folder, device_name=device)
        evaluation.check(context)
        with progress(evaluation.num_images(context), "images") as advance:
            report = evaluation(context, advance)
        assert report is not None  # this is the only process
        for clean in report.cleanup:
            clean()
    return report
