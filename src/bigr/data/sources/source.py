"""What every source of encoded images offers."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIXED_BLOCKS = 16
"""Blocks whose samples are mixed, where samples can only be read in blocks."""
IMAGE_ENDINGS = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


class ImageSource(abc.ABC):
    """Encoded images with labels, in a fixed order.

    Args:
        labels: (n,) int64, indices into ``classes``.
        classes: one name per class.
    """

    def __init__(self, labels: NDArray[np.int64], classes: Sequence[str]) -> None:
        self.labels = labels
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.labels)

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """How people find image ``index``."""

    @abc.abstractmethod
    def read(self, index: int) -> bytes:
        """The encoded bytes of image ``index``."""

    @property
    def blocks(self) -> NDArray[np.int64] | None:
        """First index of each run of images that is read as a whole; None: any order is as fast."""
        return None

    def fingerprint(self) -> str:
        """SHA-256 of names and labels: tells another list of images from this one."""
        digest = hashlib.sha256(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        self._add_names(digest)
        return digest.hexdigest()

    def _add_names(self, digest: hashlib._Hash) -> None:
        for index in range(len(self)):
            digest.update(self.name(index).encode() + b"\n")


def is_image(name: str) -> bool:
    """Whether a file's name ends like an image's; hidden files never do."""
    return name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")
