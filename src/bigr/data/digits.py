"""Scikit-learn's handwritten digits: 1,797 images that are installed with the package.

Source: Alpaydin & Kaynak, UCI, 1998; 8x8 pixels, 17 grey levels, 10 classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NATIVE_SIZE = 8
NUM_CLASSES = 10
GREY_LEVELS = 16
TEST_SHARE = 0.2
SPLIT_SEED = 0

Split = Literal["train", "test"]


class LabelledImages(NamedTuple):
    """Images in memory and their classes."""

    images: Tensor
    """(n, 3, size, size) float32 in [0, 1]."""
    labels: Tensor
    """(n,) int64 classes of the images."""


def load_digits(split: Split, image_size: int) -> LabelledImages:
    """Load one split of the digits. The splits are fixed and stratified.

    Args:
        split: ``train`` (1,437 images) or ``test`` (360 images).
        image_size: side in pixels, a multiple of 8; images are enlarged bilinearly.

    Raises:
        ValueError: if ``image_size`` is not a multiple of 8.
    """
    if image_size % NATIVE_SIZE:
        raise ValueError(f"digits need an image_size that is a multiple of 8, got {image_size}.")
    from sklearn.datasets import load_digits as load_bunch
    from sklearn.model_selection import train_test_split

    bunch = load_bunch()
    indices = train_test_split(
        range(len(bunch.target)),
        test_size=TEST_SHARE,
        random_state=SPLIT_SEED,
        stratify=bunch.target,
    )
    chosen = indices[0] if split == "train" else indices[1]
    grey = torch.from_numpy(bunch.images[chosen]).float()[:, None] / GREY_LEVELS
    enlarged = F.interpolate(grey, size=image_size, mode="bilinear", align_corners=False)
    labels = torch.from_numpy(bunch.target[chosen]).long()
    return LabelledImages(enlarged.expand(-1, 3, -1, -1).contiguous(), labels)


def check_digit_classes(num_classes: int, names: Sequence[str] | None, setting: str) -> None:
    """Check that the classes of a generator are the digits.

    Args:
        num_classes: number of its classes.
        names: their names, if they are known.
        setting: the setting that needs digits, for the message.

    Raises:
        ValueError: if the classes are not the ten digits.
    """
    if num_classes != NUM_CLASSES:
        raise ValueError(
            f"{setting} needs a generator with {NUM_CLASSES} classes, but this one has "
            f"{num_classes}: use evaluation=own with images of its classes as reference=…."
        )
    if names is not None and list(names) != [str(digit) for digit in range(NUM_CLASSES)]:
        raise ValueError(
            f"{setting} scores generated digits, but the first class of this generator is called "
            f"{names[0]}: use evaluation=own with images of its classes as reference=…."
        )


def to_native(images: Tensor) -> Tensor:
    """Reduce images (n, 3, size, size) in [0, 1] to the dataset's (n, 64) grey levels 0..16."""
    grey = images.clamp(0, 1).mean(dim=1, keepdim=True)
    small = F.adaptive_avg_pool2d(grey, NATIVE_SIZE)
    return small.flatten(1) * GREY_LEVELS
