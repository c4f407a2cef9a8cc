"""Digits: how well a classifier of real digits reads generated ones, and pictures to look at."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from bigr.data.digits import NUM_CLASSES
from bigr.evaluation.evaluator import EvaluationContext, OnBatch
from bigr.evaluation.report import Report
from bigr.inference.generate import class_labels, generate
from bigr.metrics.digit_scores import NUM_NEIGHBOURS, DigitScores, DigitsReport
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import NonNegativeInt, PositiveInt, check_fields

SHOWN_PER_CLASS = 10
INPAINTING_VARIANTS = 5
RECONSTRUCTION_ROWS = 4
MASK_GREY = 0.5


@dataclasses.dataclass(kw_only=True)
class DigitsEvaluation:
    """Generate digits and score them against the reconstructions of held-out ones.

    Args:
        inpainting_sampler: settings for the picture of inpainted halves.
        count: images, class by class; at least 4, and 1,000 give stable figures.
        batch_size: images at a time.
        seed: seed of the first image.
    """

    is_shared = False
    inpainting_sampler: SamplerConfig
    count: Annotated[int, Ge(NUM_NEIGHBOURS + 1)] = 1000
    batch_size: PositiveInt = 250
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def check(self, context: EvaluationContext) -> None:
        """Raise ``ValueError`` if the generator does not have the ten classes of the digits."""
        classes = context.models.generator.config.num_classes
        if classes != NUM_CLASSES:
            raise ValueError(
                f"evaluation=digits needs a generator of {NUM_CLASSES} classes, this one has "
                f"{classes}."
            )

    def num_images(self, context: EvaluationContext) -> int:  # noqa: ARG002
        """Return the number of generated digits."""
        return self.count

    def __call__(self, context: EvaluationContext, on_batch: OnBatch = lambda _: None) -> Report:
        """Generate the digits, score them, and draw the pictures."""
        report = DigitsReport(context.codec, context.codec.config.image_size)
        labels = class_labels(self.count, NUM_CLASSES, "sorted")
        images = generate(
            context.models,
            context.sampler,
            labels,
            execution=context.execution,
            seed=self.seed,
            batch_size=self.batch_size,
            on_batch=on_batch,
        )
        generated = report.score(images, labels)
        training = report.training_scores(self.count)
        reading = report.reading()
        shown = max(1, min(SHOWN_PER_CLASS, self.count // NUM_CLASSES))
        return Report(
            metrics={
                "generated": dataclasses.asdict(generated),
                "training_split": dataclasses.asdict(training),
                "reader_accuracy": reading,
                "sampler": context.sampler.to_dict(),
                "seed": self.seed,
            },
            figures={
                name: float(getattr(generated, name))
                for name in ("accuracy", "precision", "recall", "copies")
            },
            rows=_rows(generated, training, reading),
            columns=("generated", "training split", "wanted"),
            pictures={
                "samples.png": (_first_of_each(images, labels, shown), shown),
                "reconstructions.png": _reconstructions(report),
                "inpainting.png": self._inpainting(context, report),
            },
        )

    def _inpainting(self, context: EvaluationContext, report: DigitsReport) -> tuple[Tensor, int]:
        """Return one row per class: a digit, the digit without its right half, and variants."""
        images = _first_of_each(report.test.images, report.test.labels, per_class=1)
        side = images.shape[-1]
        hidden = torch.zeros(side, side, dtype=torch.bool)
        hidden[:, side // 2 :] = True
        variants = context.pipeline(self.batch_size).repaint(
            list(images),
            [hidden] * len(images),
            [None] * len(images),
            num_variants=INPAINTING_VARIANTS,
            blend="none",
            seed=self.seed,
            sampler=self.inpainting_sampler,
        )
        squares = torch.stack([variant.square for variant in variants])
        masked = torch.where(hidden, MASK_GREY, images)
        columns = [images[:, None], masked[:, None], squares.unflatten(0, (len(images), -1))]
        return torch.cat(columns, dim=1).flatten(0, 1), INPAINTING_VARIANTS + 2


def _first_of_each(images: Tensor, labels: Tensor, per_class: int) -> Tensor:
    """Return the first ``per_class`` images of every class, class by class."""
    chosen = [images[labels == label][:per_class] for label in range(NUM_CLASSES)]
    return torch.cat(chosen)


def _reconstructions(report: DigitsReport) -> tuple[Tensor, int]:
    """Return rows of held-out digits, each above the row of their reconstructions."""
    shown, shape = RECONSTRUCTION_ROWS * SHOWN_PER_CLASS, (RECONSTRUCTION_ROWS, 1, SHOWN_PER_CLASS)
    originals = report.test.images[:shown].unflatten(0, shape)
    decoded = report.test_reconstructions[:shown].unflatten(0, shape)
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
        ("classifier on held-out originals", "", f"{reading['originals']:.1%}", ""),
        ("classifier on their reconstructions", "", f"{reading['reconstructions']:.1%}", ""),
    ]
