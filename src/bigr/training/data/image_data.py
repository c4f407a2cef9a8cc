"""Data modules of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Lt
from torch import Tensor
from torch.utils.data import DataLoader

from bigr.data.broken import BrokenImages
from bigr.data.decoding import Decoder
from bigr.data.digits import load_digits
from bigr.data.image_arrays import to_float
from bigr.data.image_dataset import ImageSet, MemoryImages, Sample
from bigr.data.locks import only_writer
from bigr.data.seeds import mixed_seed
from bigr.data.sources.arrays import KnownDataset, download
from bigr.data.sources.find import find_splits
from bigr.data.sources.held_out import VAL_SHARE
from bigr.schema import ExistingPath, Fraction, PositiveInt, checked
from bigr.training.base_module import batch_place
from bigr.training.data.batch import Batch
from bigr.training.data.resumable_data import ResumableDataModule

DOWNLOAD_SECONDS = 3600.0
"""How long the processes of a run wait for the one that downloads."""


def collate(samples: list[Sample]) -> Batch:
    """Stack samples to a batch."""
    return Batch(
        torch.tensor([sample.label for sample in samples]),
        images=torch.stack([sample.image for sample in samples]),
        broken=tuple(image for sample in samples for image in sample.broken),
    )


class ImageDataModule(ResumableDataModule):
    """Base class of data modules of images. Subclasses set both sets in ``setup``.

    Args:
        image_size: side of the images in pixels.
        flip: mirror half of the training images; every epoch chooses others.
        max_broken_share: training stops if a larger share of the images is unreadable.
        broken_report: file in which unreadable images are listed; None writes none.
        **common: see :class:`ResumableDataModule`.
    """

    provides = "images"
    train_set: ImageSet | MemoryImages
    val_set: ImageSet | MemoryImages
    decoder: Literal["torchvision", "pil", "none"] = "none"
    honour_exif = False

    @checked
    def __init__(
        self,
        *,
        image_size: PositiveInt,
        flip: bool = False,
        max_broken_share: Fraction = 0.001,
        broken_report: str | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.image_size = image_size
        self.flip = flip
        self.max_broken_share = max_broken_share
        self.broken_report = None if broken_report is None else Path(broken_report)
        self._broken: BrokenImages | None = None

    @property
    def classes(self) -> list[str]:
        """Names of the classes, after ``setup``."""
        return [str(label) for label in range(self.num_classes)]

    def train_dataloader(self) -> DataLoader[Any]:
        """Return this process's training batches."""
        source = getattr(self.train_set, "source", None)
        blocks = None if source is None else source.blocks
        order = self.train_order(len(self.train_set), blocks=blocks)
        return self.loader(self.train_set, order, collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return this process's validation batches."""
        return self.loader(self.val_set, self.validation_order(len(self.val_set)), collate)

    def num_images(self, split: str) -> int:
        """Return the number of images of ``train`` or ``val``, after ``setup``."""
        return len(self.train_set if split == "train" else self.val_set)

    def ordered_loader(self, split: str, batches: Sequence[Sequence[int]]) -> DataLoader[Any]:
        """Return batches of the given images of ``train`` or ``val``."""
        return self.loader(self.train_set if split == "train" else self.val_set, batches, collate)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count the unreadable images that were replaced by others.

        Raises:
            TooManyBrokenError: if their share is above the limit.
        """
        if batch.broken:
            if self._broken is None:
                total = len(self.train_set) + len(self.val_set)
                self._broken = BrokenImages(total, self.max_broken_share, self.broken_report)
            self._broken.add(batch.broken)
        return batch._replace(broken=())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Scale bytes to [0, 1], and mirror half of the training images."""
        if batch.images is None:
            return batch
        images = to_float(batch.images)
        if self.flip and self.trainer is not None and self.trainer.training:
            is_flipped = self._draw_flips(len(images)).to(images.device, non_blocking=True)
            images = torch.where(is_flipped[:, None, None, None], images.flip(3), images)
        return batch._replace(images=images)

    def _draw_flips(self, count: int) -> Tensor:
        """Return (count,) bool, a function of the seed, the step and the place in its batch."""
        place = batch_place(self.trainer, count)  # type: ignore[arg-type]  # it is training
        generator = place.generator(mixed_seed("flip", self.seed), "cpu")
        return torch.rand(place.total, generator=generator)[place.rows] < 0.5


class DigitsDataModule(ImageDataModule):
    """Scikit-learn's handwritten digits: 1,437 for training, 360 for validation, not mirrored."""

    @checked
    def __init__(
        self,
        *,
        image_size: PositiveInt = 16,
        batch_size: PositiveInt = 64,
        num_classes: Literal[10] = 10,
        **common: Any,
    ) -> None:
        super().__init__(
            image_size=image_size, batch_size=batch_size, num_classes=num_classes, **common
        )

    def setup(self, stage: str) -> None:
        """Load both splits. Nothing is downloaded."""
        self.train_set = MemoryImages(load_digits("train", self.image_size), "digits/train")
        self.val_set = MemoryImages(load_digits("test", self.image_size), "digits/test")


class ImageNetDataModule(ImageDataModule):
    """ImageNet-1K, or other images with classes: ADM's centre crop, and random mirroring.

    Args:
        root: folder with images, or with tar, parquet or Arrow files; the format is detected, see
            :func:`bigr.data.sources.find.find_splits`.
        val_share: share of the images of each class that is held out for validation, if ``root``
            has no validation set.
        dataset: a dataset that ``download`` downloads to ``root``.
        download: whether to download ``dataset`` unless ``root`` contains it.
        decoder: ``torchvision``, or ``pil`` for exactly the arithmetic of Pillow.
        honour_exif: rotate images as their EXIF data says; the paper's loader does not.
        **common: see :class:`ImageDataModule`.
    """

    @checked
    def __init__(
        self,
        *,
        root: ExistingPath,
        num_classes: PositiveInt = 1000,
        num_workers: int = 8,
        flip: bool = True,
        val_share: Annotated[float, Gt(0), Lt(1)] = VAL_SHARE,
        dataset: KnownDataset | None = None,
        download: bool = False,
        decoder: Decoder = "torchvision",
        honour_exif: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, num_workers=num_workers, flip=flip, **common)
        self.root = Path(root).expanduser()
        self.val_share = val_share
        self.dataset = dataset
        self.download = download
        self.decoder = decoder
        if download and dataset is None:
            raise ValueError("data.download=true needs data.dataset, such as data=cifar10.")
        self.honour_exif = honour_exif

    @property
    def classes(self) -> list[str]:
        """Names of the class folders (wnids), after ``setup``."""
        return list(self.train_set.source.classes)  # type: ignore[union-attr]

    def prepare_data(self) -> None:
        """Download the dataset, if that was asked for."""
        if self.download and self.dataset is not None:
            with only_writer(self.root, wait_seconds=DOWNLOAD_SECONDS):
                download(self.dataset, self.root)

    def setup(self, stage: str) -> None:
        """Find the images of both splits.

        Raises:
            ValueError: if there are no images, or the number of classes differs.
        """
        if hasattr(self, "val_set"):
            return
        try:
            train, val = find_splits(self.root, self.val_share)
        except ValueError as error:
            if self.dataset is None or self.download:
                raise
            raise ValueError(f"{error} data.download=true downloads {self.dataset}.") from error
        if len(train.classes) != self.num_classes:
            raise ValueError(
                f"data.root={self.root} has {len(train.classes)} classes, but data.num_classes is "
                f"{self.num_classes}: set data.num_classes={len(train.classes)}."
            )
        settings: Any = {"decoder": self.decoder, "honour_exif": self.honour_exif}
        self.train_set = ImageSet(train, self.image_size, **settings)
        self.val_set = ImageSet(val, self.image_size, **settings)
