"""DataModules of images: where batches come from."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bigr.data.batch_order import ResumableBatchSampler
from bigr.data.broken import BrokenImages
from bigr.data.decoding import check_decoder
from bigr.data.digits import NUM_CLASSES, load_digits
from bigr.data.image_arrays import to_float
from bigr.data.image_dataset import ImageSet, MemoryImages, Sample
from bigr.data.seeds import mixed_seed
from bigr.data.sources.find import find_source
from bigr.models.config import check_positive_ints
from bigr.training.base_module import batch_counter, batch_place
from bigr.training.data.batch import Batch


def collate(samples: list[Sample]) -> Batch:
    """Samples to a batch."""
    return Batch(
        torch.tensor([sample.label for sample in samples]),
        images=torch.stack([sample.image for sample in samples]),
        broken=tuple(image for sample in samples for image in sample.broken),
    )


class ResumableDataModule(lightning.LightningDataModule, abc.ABC):
    """Base: a training set in resumable random order and a validation set in its own order.

    Args:
        num_classes: that the labels may have.
        batch_size: per device.
        num_workers: loader processes.
        seed: of the order.
    """

    def __init__(self, *, num_classes: int, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        check_positive_ints(self, "num_classes", "batch_size")
        self._before: dict[str, int] = {}
        self._train_order: ResumableBatchSampler | None = None

    @abc.abstractmethod
    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches; every process gets its own share."""

    @abc.abstractmethod
    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches, in order; every process gets its own share."""

    def _order(self, num_samples: int, **settings: Any) -> ResumableBatchSampler:
        order = ResumableBatchSampler(
            num_samples,
            self.batch_size,
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            num_ranks=self.trainer.world_size if self.trainer else 1,
            group=self.trainer.accumulate_grad_batches if self.trainer else 1,
            **settings,
        )
        order.consumed = self._consumed(order)
        self._train_order = order
        return order

    def _consumed(self, order: ResumableBatchSampler) -> int:
        """Batches used before, which may have been of other devices and another accumulation."""
        if not self._before:
            return 0
        images, group = self._before["images"], self._before["accumulated"]
        ours = order.batch_size * order.num_ranks * order.group
        if images != ours:
            raise ValueError(
                f"the checkpoint was made with {images} images per step, and this run has {ours}: "
                f"set global_batch_size={images}."
            )
        return self._before["consumed"] * order.group // group

    @abc.abstractmethod
    def num_images(self, split: str) -> int:
        """Images of ``train`` or ``val``, once set up."""

    @abc.abstractmethod
    def ordered_loader(self, split: str, batches: Sequence[Sequence[int]]) -> DataLoader[Any]:
        """Batches of these images of ``train`` or ``val``; of codes the first view and draw."""

    def describe_batch(self, consumed: int) -> dict[str, Any]:
        """Which samples the training batch after ``consumed`` others holds."""
        if self._train_order is None:
            raise RuntimeError("there is no training order yet")
        return self._train_order.describe(consumed)

    def _share(self, num_samples: int) -> list[list[int]]:
        """This process's validation batches: every n-th sample."""
        rank = self.trainer.global_rank if self.trainer else 0
        mine = list(range(rank, num_samples, self.trainer.world_size if self.trainer else 1))
        mine = mine or [rank % num_samples]  # the processes sum up together: none may have nothing
        return [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]

    def _loader(self, dataset: Dataset[Any], order: Any, collate_fn: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_sampler=order,
            collate_fn=collate_fn,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def state_dict(self) -> dict[str, int]:
        """How many training batches have been used, and what they were."""
        if self.trainer is None or self._train_order is None:
            return {}
        order = self._train_order
        return {
            "consumed": batch_counter(self.trainer.lightning_module),
            "accumulated": order.group,
            "images": order.batch_size * order.num_ranks * order.group,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the last used batch."""
        self._before = dict(state)


class ImageDataModule(ResumableDataModule):
    """Base for images.

    Args:
        image_size: side of the images in pixels.
        flip: mirror half of the training images.
        max_broken_share: above this share of broken images, training stops.
        broken_report: where broken images are listed; None lists them nowhere.
        **common: see :class:`ResumableDataModule`.
    """

    train_set: ImageSet | MemoryImages
    val_set: ImageSet | MemoryImages
    decoder = "none"
    honour_exif = False

    def __init__(
        self,
        *,
        image_size: int,
        flip: bool = False,
        max_broken_share: float = 0.001,
        broken_report: str | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.image_size = image_size
        self.flip = flip
        self.max_broken_share = max_broken_share
        self.broken_report = None if broken_report is None else Path(broken_report)
        BrokenImages(1, max_broken_share)  # checks the share
        check_positive_ints(self, "image_size")
        self._broken: BrokenImages | None = None

    @property
    def classes(self) -> list[str]:
        """Names of the classes, once set up."""
        return [str(label) for label in range(self.num_classes)]

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches; every process gets its own share."""
        source = getattr(self.train_set, "source", None)
        order = self._order(len(self.train_set), blocks=None if source is None else source.blocks)
        return self._loader(self.train_set, order, collate)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches, in order; every process gets its own share."""
        return self._loader(self.val_set, self._share(len(self.val_set)), collate)

    def num_images(self, split: str) -> int:
        """Images of ``train`` or ``val``, once set up."""
        return len(self.train_set if split == "train" else self.val_set)

    def ordered_loader(self, split: str, batches: Sequence[Sequence[int]]) -> DataLoader[Any]:
        """Batches of these images of ``train`` or ``val``."""
        images = self.train_set if split == "train" else self.val_set
        return self._loader(images, batches, collate)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Count the broken images that others stand in for.

        Raises:
            TooManyBrokenError: if their share is above the limit.
        """
        if batch.broken:
            if self._broken is None:
                total = len(self.train_set) + len(self.val_set)
                self._broken = BrokenImages(total, self.max_broken_share, self.broken_report)
            self._broken.add(batch.broken)
        return batch._replace(broken=())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Scale bytes to [0, 1]; mirror half of the training images."""
        if batch.images is None:
            return batch
        images = to_float(batch.images)
        if self.flip and self.trainer is not None and self.trainer.training:
            is_flipped = self._draw_flips(len(images)).to(images.device, non_blocking=True)
            images = torch.where(is_flipped[:, None, None, None], images.flip(3), images)
        return batch._replace(images=images)

    def _draw_flips(self, count: int) -> Tensor:
        """(count,) bool: a function of seed, step and place in the global batch."""
        place = batch_place(self.trainer, count)  # type: ignore[arg-type]  # it is training
        generator = place.generator(mixed_seed("flip", self.seed), "cpu")
        return torch.rand(place.total, generator=generator)[place.rows] < 0.5


class DigitsDataModule(ImageDataModule):
    """Scikit-learn's handwritten digits: 1,437 to train, 360 held out. Never mirrored."""

    def __init__(
        self,
        *,
        image_size: int = 16,
        batch_size: int = 64,
        num_workers: int = 0,
        num_classes: int = NUM_CLASSES,
        seed: int = 0,
    ) -> None:
        if num_classes != NUM_CLASSES:
            raise ValueError(f"data.num_classes must be {NUM_CLASSES} for digits.")
        super().__init__(
            num_classes=num_classes,
            image_size=image_size,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Load both splits; nothing is downloaded."""
        self.train_set = MemoryImages(load_digits("train", self.image_size), "digits/train")
        self.val_set = MemoryImages(load_digits("test", self.image_size), "digits/test")


class ImageNetDataModule(ImageDataModule):
    """ImageNet-1K, or any images in class folders: ADM's crop, random mirror.

    What lies in ``root`` is told by looking, see :func:`bigr.data.sources.find.find_source`.

    Args:
        root: folder with folders, tars or parquet files.
        decoder: ``torchvision``, or ``pil`` for Pillow's arithmetic exactly.
        honour_exif: turn images the way their EXIF data says; the paper's loader doesn't.
        **common: see :class:`ImageDataModule`.
    """

    def __init__(
        self,
        *,
        root: str,
        image_size: int,
        batch_size: int,
        num_classes: int = 1000,
        num_workers: int = 8,
        flip: bool = True,
        decoder: str = "torchvision",
        honour_exif: bool = False,
        max_broken_share: float = 0.001,
        broken_report: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            image_size=image_size,
            batch_size=batch_size,
            num_workers=num_workers,
            flip=flip,
            max_broken_share=max_broken_share,
            broken_report=broken_report,
            seed=seed,
        )
        self.root = Path(root).expanduser()
        self.decoder = check_decoder(decoder)
        self.honour_exif = honour_exif

    @property
    def classes(self) -> list[str]:
        """Names of the class folders (wnids), once set up."""
        return list(self.train_set.source.classes)  # type: ignore[union-attr]

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Find both splits.

        Raises:
            ValueError: if one is missing or the number of classes is another one.
        """
        if hasattr(self, "val_set"):
            return
        train = find_source(self.root, "train")
        if len(train.classes) != self.num_classes:
            raise ValueError(
                f"data.root={self.root} has {len(train.classes)} classes, but data.num_classes is "
                f"{self.num_classes}: set data.num_classes={len(train.classes)}."
            )
        val = find_source(self.root, "val", train.classes)
        self.train_set, self.val_set = (
            ImageSet(
                source,
                self.image_size,
                decoder=self.decoder,  # type: ignore[arg-type]  # checked
                honour_exif=self.honour_exif,
            )
            for source in (train, val)
        )
