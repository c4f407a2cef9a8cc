"""Images of a source as data sets for training and for tokenisation."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from bigr.data.broken import BrokenImage, TooManyBrokenError
from bigr.data.decoding import BrokenImageError, Decoder, decode
from bigr.data.digits import LabelledImages
from bigr.data.sources.source import ImageSource
from bigr.data.transforms import View, center_crop, make_views

MOST_IN_A_ROW = 1000


class Sample(NamedTuple):
    """One image of a batch."""

    image: Tensor
    """(3, H, W) uint8, or float in [0, 1]."""
    label: int
    broken: tuple[BrokenImage, ...] = ()
    """Those that this one stands in for."""


class Pictures(Protocol):
    """Images that can be tokenised."""

    def __len__(self) -> int: ...

    def label(self, index: int) -> int:
        """Class of an image."""

    def name(self, index: int) -> str:
        """How people find an image."""

    def fingerprint(self) -> str:
        """SHA-256 that tells these images from others."""

    def views(self, index: int, views: tuple[View, ...]) -> Tensor:
        """(V, 3, H, W) uint8, or float in [0, 1]; ``BrokenImageError`` if it can't be decoded."""


class ImageSet(Dataset[Sample]):
    """Centre crops of a source's images; a broken one is replaced by the next good one.

    Args:
        source: encoded images.
        image_size: side of the crops in pixels.
        decoder: ``torchvision``, or ``pil`` for Pillow's arithmetic exactly.
        honour_exif: turn images the way their EXIF data says.
    """

    def __init__(
        self,
        source: ImageSource,
        image_size: int,
        *,
        decoder: Decoder = "torchvision",
        honour_exif: bool = False,
    ) -> None:
        self.source = source
        self.image_size = image_size
        self.decoder: Decoder = decoder
        self.honour_exif = honour_exif

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        broken: list[BrokenImage] = []
        for step in range(min(len(self), MOST_IN_A_ROW)):
            candidate = (index + step) % len(self)
            try:
                image = center_crop(self._decode(candidate), self.image_size, self.decoder)
                return Sample(image, self.label(candidate), tuple(broken))
            except BrokenImageError as error:
                broken.append(BrokenImage(self.name(candidate), str(error)))
        raise TooManyBrokenError(
            f"{len(broken)} images in a row are broken, from {broken[0].name} "
            f"({broken[0].reason}) to {broken[-1].name}."
        )

    def label(self, index: int) -> int:
        """Class of an image."""
        return int(self.source.labels[index])

    def name(self, index: int) -> str:
        """How people find an image."""
        return self.source.name(index)

    def fingerprint(self) -> str:
        """SHA-256 of names and labels."""
        return self.source.fingerprint()

    def views(self, index: int, views: tuple[View, ...]) -> Tensor:
        """(V, 3, size, size) uint8; ``BrokenImageError`` if it can't be decoded."""
        return make_views(self._decode(index), self.image_size, views, self.decoder)

    def _decode(self, index: int) -> Tensor:
        try:
            data = self.source.read(index)
        except FileNotFoundError as error:
            raise BrokenImageError("the file is gone") from error
        return decode(data, decoder=self.decoder, honour_exif=self.honour_exif)


class MemoryImages(Dataset[Sample]):
    """Images in memory.

    Args:
        data: images and labels.
        title: that their names start with.
    """

    def __init__(self, data: LabelledImages, title: str) -> None:
        self.data = data
        self.title = title

    def __len__(self) -> int:
        return len(self.data.labels)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.data.images[index], self.label(index))

    def label(self, index: int) -> int:
        """Class of an image."""
        return int(self.data.labels[index])

    def name(self, index: int) -> str:
        """How people find an image."""
        return f"{self.title}:{index}"

    def fingerprint(self) -> str:
        """SHA-256 of pixels and labels."""
        import hashlib

        digest = hashlib.sha256(self.data.labels.numpy().tobytes())
        digest.update(self.data.images.numpy().tobytes())
        return digest.hexdigest()

    def views(self, index: int, views: tuple[View, ...]) -> Tensor:
        """(V, 3, H, W) float; ``ValueError`` for ten crops, of which small images have none."""
        if "ten_crop" in views:
            raise ValueError(f"views: {self.title} have no ten_crop, only center and mirror.")
        image = self.data.images[index]
        return torch.stack([image if view == "center" else image.flip(-1) for view in views])
