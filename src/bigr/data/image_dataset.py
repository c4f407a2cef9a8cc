"""Datasets of images, for training and for tokenization."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from bigr.data.broken import BrokenImage, TooManyBrokenError
from bigr.data.decoding import BrokenImageError, Decoder, decode
from bigr.data.digits import LabelledImages
from bigr.data.sources.source import ImageSource
from bigr.data.transforms import View, center_crop, make_views

MAX_BROKEN_IN_A_ROW = 1000


class Sample(NamedTuple):
    """One image with its class."""

    image: Tensor
    """(3, H, W) uint8, or floats in [0, 1]."""
    label: int
    broken: tuple[BrokenImage, ...] = ()
    """Broken images that this one replaces."""


class TokenizableImages(Protocol):
    """A dataset whose images can be tokenized."""

    def __len__(self) -> int: ...

    def label(self, index: int) -> int:
        """Return the class of an image."""

    def name(self, index: int) -> str:
        """Return the name under which users find an image."""

    def fingerprint(self) -> str:
        """Return a SHA-256 checksum that identifies this list of images."""

    def views(self, index: int, views: tuple[View, ...]) -> Tensor:
        """Return views (V, 3, H, W) of an image, uint8 or floats in [0, 1].

        Raises:
            BrokenImageError: if the image cannot be decoded.
        """


class ImageSet(Dataset[Sample]):
    """Centre crops of the images of a source; a broken image is replaced by the next intact one.

    Args:
        source: encoded images.
        image_size: side of the crops in pixels.
        decoder: ``torchvision``, or ``pil`` for the exact arithmetic of Pillow.
        honour_exif: whether to rotate images as their EXIF data says.
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
        for step in range(min(len(self), MAX_BROKEN_IN_A_ROW)):
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
        """Return the class of an image."""
        return int(self.source.labels[index])

    def name(self, index: int) -> str:
        """Return the name under which users find an image."""
        return self.source.name(index)

    def fingerprint(self) -> str:
        """Return the SHA-256 checksum of all names and labels."""
        return self.source.fingerprint()

    def views(self, index: int, views: tuple[View, ...]) -> Tensor:
        """Return views (V, 3, size, size) uint8; see :class:`TokenizableImages`."""
        return make_views(self._decode(index), self.image_size, views, self.decoder)

    def _decode(self, index: int) -> Tensor:
        try:
            data = self.source.read(index)
        except FileNotFoundError as error:
            raise BrokenImageError("the file is gone") from error
        except (OSError, ValueError) as error:  # a named pipe, or a damaged part of an archive
            raise BrokenImageError(str(error).splitlines()[0]) from error
        return decode(data, decoder=self.decoder, honour_exif=self.honour_exif)


class MemoryImages(Dataset[Sample]):
    """Images that are kept in memory.

    Args:
        data: images and labels.
        title: first part of the names of the images.
    """

    def __init__(self, data: LabelledImages, title: str) -> None:
        self.data = data
        self.title = title

    def __len__(self) -> int:
        return len(self.data.labels)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.data.images[index], self.label(index))

    def label(self, index: int) -> int:
        """Return the class of an image."""
        return int(self.data.labels[index])

    def name(self, index: int) -> str:
        """Return the title and the number of an image."""
        return f"{self.title}:{index}"

    def fingerprint(self) -> str:
        """Return the SHA-256 checksum of all pixels and labels."""
        digest = hashlib.sha256(self.data.labels.numpy().tobytes())
        digest.update(self.data.images.numpy().tobytes())
        return digest.hexdigest()

    def views(self, index: int, views: tuple[View, ...]) -> Tensor:
        """Return views (V, 3, H, W) as floats; ``ValueError`` for ten crops of small images."""
        if "ten_crop" in views:
            raise ValueError(f"views: {self.title} have no ten_crop, only center and mirror.")
        image = self.data.images[index]
        return torch.stack([image if view == "center" else image.flip(-1) for view in views])
