"""The digits end to end: figures, and the pictures that a newcomer looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from bigr.data.digits import NUM_CLASSES
from bigr.evaluation.report import Evaluation
from bigr.inference.generate import Models, generate
from bigr.metrics.digit_scores import (
    NUM_NEIGHBOURS,
    DigitScores,
    DigitsReport,
    balanced_labels,
)
from bigr.models.codes import grid_to_tokens
from bigr.sampling.conditioning import null_classes, token_mask
from bigr.sampling.sampler_config import DEFAULT_EXECUTION, ExecutionConfig, SamplerConfig

SHOWN_PER_CLASS = 10
INPAINTING_VARIANTS = 5
MASK_GREY = 0.5


class DigitsEvaluation:
    """Draw digits and score them against the reconstructions of held-out ones.

    Args:
        count: images, class by class.
        batch_size: images at a time.
        seed: of the first image.
        inpainting_sampler: settings for the picture of filled-in halves.
    """

    def __init__(
        self,
        *,
        inpainting_sampler: SamplerConfig,
        count: int = 1000,
        batch_size: int = 250,
        seed: int = 0,
    ) -> None:
        if count <= NUM_NEIGHBOURS:
            raise ValueError(
                f"evaluation.count={count} is too small: {NUM_NEIGHBOURS} nearest neighbours need "
                f"more than {NUM_NEIGHBOURS} images (1,000 give steady figures)."
            )
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.inpainting_sampler = inpainting_sampler

    def check(self, models: Models) -> None:
        """Raise ``ValueError`` unless ``models`` draw digits."""
        classes = models.generator.config.num_classes
        if classes != NUM_CLASSES:
            raise ValueError(
                f"evaluation=digits needs a generator of {NUM_CLASSES} classes, this one has "
                f"{classes}."
            )

    def __call__(
        self,
        models: Models,
        sampler: SamplerConfig,
        on_batch: Callable[[int], object] | None = None,
        *,
        execution: ExecutionConfig = DEFAULT_EXECUTION,
    ) -> Evaluation:
        """Figures and pictures of ``models``; ``on_batch`` gets the number of images finished."""
        report = DigitsReport(models.autoencoder, models.autoencoder.config.image_size)
        labels = balanced_labels(self.count)
        images = generate(
            models,
            sampler,
            labels,
            execution=execution,
            seed=self.seed,
            batch_size=self.batch_size,
            on_batch=on_batch,
        )
        generated = report.score(images, labels)
        training = report.training_scores(self.count)
        reading = report.reading()
        shown = max(1, min(SHOWN_PER_CLASS, self.count // NUM_CLASSES))
        return Evaluation(
            metrics={
                "generated": dataclasses.asdict(generated),
                "training_split": dataclasses.asdict(training),
                "reader_accuracy": reading,
                "sampler": dataclasses.asdict(sampler),
                "seed": self.seed,
            },
            figures={
                name: float(getattr(generated, name))
                for name in ("accuracy", "precision", "recall", "copies")
            },
            rows=_rows(generated, training, reading),
            pictures={
                "samples.png": (_first_of_each(images, labels, shown), shown),
                "reconstructions.png": _reconstructions(report),
                "inpainting.png": self._inpainting(models, report, execution),
            },
        )

    def _inpainting(
        self, models: Models, report: DigitsReport, execution: ExecutionConfig
    ) -> tuple[Tensor, int]:
        """One row a class: original, original with its right half hidden, variants."""
        images = _first_of_each(report.test.images, report.test.labels, per_class=1)
        side = images.shape[-1]
        hidden = torch.zeros(len(images), side, side, dtype=torch.bool)
        hidden[:, :, side // 2 :] = True
        device = models.generator.device
        with torch.inference_mode():
            bit_probs = models.autoencoder.encode(images.to(device))
            codes = models.autoencoder.quantize(bit_probs, deterministic=True)
        repeats = INPAINTING_VARIANTS
        variants = generate(
            models,
            self.inpainting_sampler,
            null_classes(len(images) * repeats, models.generator.config.null_class),
            execution=execution,
            seed=self.seed,
            batch_size=self.batch_size,
            known_codes=grid_to_tokens(codes).repeat_interleave(repeats, dim=0),
            is_masked=token_mask(hidden, models.generator.config.grid_size).repeat_interleave(
                repeats, dim=0
            ),
        )
        masked = torch.where(hidden[:, None], MASK_GREY, images)
        columns = [images[:, None], masked[:, None], variants.unflatten(0, (-1, repeats))]
        return torch.cat(columns, dim=1).flatten(0, 1), repeats + 2


def _first_of_each(images: Tensor, labels: Tensor, per_class: int) -> Tensor:
    """The first ``per_class`` images of every class, class by class."""
    chosen = [images[labels == label][:per_class] for label in range(NUM_CLASSES)]
    return torch.cat(chosen)


def _reconstructions(report: DigitsReport) -> tuple[Tensor, int]:
    """Held-out digits, and below each row its reconstructions."""
    rows = 4
    shown = rows * SHOWN_PER_CLASS
    originals = report.test.images[:shown].unflatten(0, (rows, 1, SHOWN_PER_CLASS))
    decoded = report.test_reconstructions[:shown].unflatten(0, (rows, 1, SHOWN_PER_CLASS))
    return torch.cat([originals, decoded], dim=1).flatten(0, 2), SHOWN_PER_CLASS


def _rows(
    generated: DigitScores, training: DigitScores, reading: dict[str, float]
) -> list[tuple[str, ...]]:
    return [
        (
            "read as the class asked for",
            f"{generated.accuracy:.1%}",
            f"{training.accuracy:.1%}",
            ">= 97%",
        ),
        ("precision (k=3)", f"{generated.precision:.3f}", f"{training.precision:.3f}", ">= 0.85"),
        ("recall (k=3)", f"{generated.recall:.3f}", f"{training.recall:.3f}", ">= 0.60"),
        ("copies of training images", f"{generated.copies:.1%}", "", "< 5%"),
        ("reader on held-out originals", "", f"{reading['originals']:.1%}", ""),
        ("reader on their reconstructions", "", f"{reading['reconstructions']:.1%}", ""),
    ]
