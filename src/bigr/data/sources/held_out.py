"""A validation set that is held out from images without one."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigr.data.seeds import mixed_seed
from bigr.data.sources.source import ImageSource

VAL_SHARE = 0.1
"""Share of the images of each class that is held out unless another one is given."""


class PartSource(ImageSource):
    """Some of the images of another source, in its order.

    Args:
        whole: the other source.
        indices: (n,) int64 positions in ``whole``, ascending.
    """

    def __init__(self, whole: ImageSource, indices: NDArray[np.int64]) -> None:
        super().__init__(whole.labels[indices], whole.classes)
        self.whole = whole
        self.indices = indices

    def name(self, index: int) -> str:
        """Return the name of an image in the other source."""
        return self.whole.name(int(self.indices[index]))

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of an image."""
        return self.whole.read(int(self.indices[index]))

    @property
    def blocks(self) -> NDArray[np.int64] | None:
        """First index of each block of the other source that contains one of the images."""
        if self.whole.blocks is None:
            return None
        block = np.searchsorted(self.whole.blocks, self.indices, side="right")
        return np.unique(block, return_index=True)[1].astype(np.int64)

    def _add_names(self, digest: hashlib._Hash) -> None:
        digest.update(self.whole.fingerprint().encode())
        digest.update(np.ascontiguousarray(self.indices, dtype="<i8").tobytes())


def hold_out(whole: ImageSource, share: float = VAL_SHARE) -> tuple[PartSource, PartSource]:
    """Divide images into a training set and a validation set.

    Of each class, ``share`` of the images are drawn for validation: at least one, unless the class
    has a single image. The draw depends only on the number of images of each class, so every
    command finds the same two sets, regardless of its seed.

    Args:
        whole: all images.
        share: share for validation, between 0 and 1.

    Raises:
        ValueError: if every class has a single image, so that none can be held out.
    """
    chosen: list[Any] = []
    for label in range(len(whole.classes)):
        places = np.flatnonzero(whole.labels == label)
        count = min(max(round(share * len(places)), 1), len(places) - 1)
        if count > 0:
            order = np.random.default_rng(mixed_seed("held out", label)).permutation(len(places))
            chosen.append(places[order[:count]])
    if not chosen:
        raise ValueError(
            "no image can be held out for validation, because every class has a single image: add "
            "images, or a folder val/."
        )
    val = np.sort(np.concatenate(chosen)).astype(np.int64)
    train = np.setdiff1d(np.arange(len(whole), dtype=np.int64), val)
    return PartSource(whole, train), PartSource(whole, val)
