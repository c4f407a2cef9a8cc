"""Class names that people read."""

from __future__ import annotations

import re
from collections.abc import Sequence

WNID = re.compile(r"n\d{8}")
IMAGENET_CLASSES = 1000


def display_names(classes: Sequence[str]) -> list[str]:
    """Names for pictures and menus: words for the 1,000 wnids of ImageNet-1K, else the names given.

    Args:
        classes: names of class folders, in the order of the labels.
    """
    if len(classes) != IMAGENET_CLASSES or not all(WNID.fullmatch(name) for name in classes):
        return list(classes)
    from torchvision.models import ResNet18_Weights  # its metadata; nothing is downloaded

    return [str(name) for name in ResNet18_Weights.IMAGENET1K_V1.meta["categories"]]
