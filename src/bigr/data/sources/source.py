"""Interface of the sources of encoded images."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIXED_BLOCKS = 16
"""Number of blocks whose samples are mixed if samples can only be read in blocks."""
IMAGE_ENDINGS = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


class ImageSource(abc.ABC):
    """Encoded images with labels in a fixed order.

    Args:
        labels: (n,) int64, numbers of classes.
        classes: names of the classes.
    """

    def __init__(self, labels: NDArray[np.int64], classes: Sequence[str]) -> None:
        self.labels = labels
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.labels)

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """Return the name under which users find an image."""

    @abc.abstractmethod
    def read(self, index: int) -> bytes:
        """Return the encoded bytes of an image."""

    @property
    def blocks(self) -> NDArray[np.int64] | None:
        """First index of each block that is read as a whole; None if any order is equally fast."""
        return None

    def fingerprint(self) -> str:
        """Return the SHA-256 checksum of all names and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        self._add_names(digest)
        return digest.hexdigest()

    def _add_names(self, digest: hashlib._Hash) -> None:
        for index in range(len(self)):
            digest.update(self.name(index).encode() + b"\n")


def is_image(name: str) -> bool:
    """Return whether a file name has the suffix of an image and is not hidden."""
    return name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")
