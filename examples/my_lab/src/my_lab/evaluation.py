"""An evaluation."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from bigr.evaluation.evaluator import EvaluationContext, OnBatch
from bigr.evaluation.report import Report
from bigr.inference.generate import generate


def read_stripes(images: Tensor) -> Tensor:
    """Return 0 for horizontal and 1 for vertical stripes, (B,), from images (B, 3, H, W)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().mean(dim=(1, 2, 3))
    across = (images[..., 1:] - images[..., :-1]).abs().mean(dim=(1, 2, 3))
    return (across > down).long()


class StripeAccuracy:
    """The share of generated images whose stripes have the direction that was asked for.

    Args:
        count: number of images.
        batch_size: number of images that are generated at a time.
        seed: of the first image; image i uses ``seed + i``.
    """

    is_shared = False

    def __init__(
        self,
        *,
        count: Annotated[int, Ge(1)] = 64,
        batch_size: Annotated[int, Ge(1)] = 32,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed

    def check(self, context: EvaluationContext) -> None:
        """Raise ``ValueError`` if the generator does not know the two classes."""
        classes = context.models.generator.config.num_classes
        if classes != 2:
            raise ValueError(f"evaluation=stripes needs a generator of 2 classes, not {classes}.")

    def num_images(self, context: EvaluationContext) -> int:
        """Return the number of images for the progress bar."""
        return self.count

    def __call__(self, context: EvaluationContext, on_batch: OnBatch) -> Report:
        """Generate the images and read the direction of their stripes."""
        labels = torch.arange(self.count) % 2
        images = generate(
            context.models,
            context.sampler,
            labels,
            execution=context.execution,
            seed=self.seed,
            batch_size=self.batch_size,
            on_batch=on_batch,
        )
        accuracy = float((read_stripes(images) == labels).float().mean())
        return Report(
            metrics={"accuracy": accuracy, "count": self.count},
            figures={"accuracy": accuracy},
            rows=[("direction as asked for", f"{accuracy:.1%}")],
            pictures={"samples.png": (images[:16], 8)},
        )
