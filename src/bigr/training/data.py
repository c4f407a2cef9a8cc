"""DataModules: where batches come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bigr.data.batches import ResumableBatchSampler
from bigr.data.digits import NUM_CLASSES, LabelledImages, load_digits
from bigr.data.image_folder import ClassFolders
from bigr.models.config import check_positive_ints
from bigr.training.batch import Batch
from bigr.training.module import batch_counter

Sample = tuple[Tensor, Any]


def collate(samples: list[Sample]) -> Batch:
    """Images (3, H, W) and labels to a batch; uint8 images are scaled to [0, 1]."""
    images = torch.stack([image for image, _ in samples])
    if images.dtype == torch.uint8:
        images = images.float() / 255
    return Batch(torch.tensor([int(label) for _, label in samples]), images=images)


class ImageDataModule(lightning.LightningDataModule):
    """Base: a training set in resumable random order and a validation set in its own order.

    Args:
        num_classes: that the labels may have.
        image_size: side of the images in pixels.
        batch_size: per device.
        num_workers: loader processes.
        flip: mirror half of the training images.
        seed: of the order.
    """

    train_set: Dataset[Sample]
    val_set: Dataset[Sample]

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: int,
        batch_size: int,
        num_workers: int = 0,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.flip = flip
        self.seed = seed
        check_positive_ints(self, "num_classes", "image_size", "batch_size")
        self._order: ResumableBatchSampler | None = None
        self._resume_at = 0

    def train_dataloader(self) -> DataLoader[Sample]:
        """Training batches; every process gets its own share."""
        trainer = self.trainer
        size = len(self.train_set)  # type: ignore[arg-type]
        self._order = ResumableBatchSampler(
            size,
            self.batch_size,
            seed=self.seed,
            rank=trainer.global_rank if trainer else 0,
            num_ranks=trainer.world_size if trainer else 1,
        )
        self._order.consumed = self._resume_at
        return self._loader(self.train_set, batch_sampler=self._order)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Validation batches, in order."""
        return self._loader(self.val_set, batch_size=self.batch_size)

    def _loader(self, dataset: Dataset[Sample], **order: Any) -> DataLoader[Sample]:
        return DataLoader(
            dataset,
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            **order,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Mirror half of the training images, with the step's own randomness."""
        is_training = self.trainer is not None and self.trainer.training
        if not (self.flip and is_training) or batch.images is None:
            return batch
        draws = torch.rand(len(batch.images), 1, 1, 1, device=batch.images.device)
        return batch._replace(images=torch.where(draws < 0.5, batch.images.flip(3), batch.images))

    def state_dict(self) -> dict[str, int]:
        """How many training batches have been used."""
        module = self.trainer.lightning_module if self.trainer else None
        return {"consumed": batch_counter(module) if module else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the last used batch."""
        self._resume_at = state["consumed"]


class DigitsDataModule(ImageDataModule):
    """Scikit-learn's handwritten digits: 1,437 to train, 360 held out. Never mirrored."""

    def __init__(
        self,
        *,
        image_size: int = 16,
        batch_size: int = 128,
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
        self.train_set = _Pairs(load_digits("train", self.image_size))
        self.val_set = _Pairs(load_digits("test", self.image_size))


class ImageFolderDataModule(ImageDataModule):
    """Images as ``root/train/<class>/*`` and ``root/val/<class>/*``: ADM's crop, random mirror.

    Args:
        root: folder with ``train`` and ``val``.
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
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            image_size=image_size,
            batch_size=batch_size,
            num_workers=num_workers,
            flip=flip,
            seed=seed,
        )
        self.root = Path(root).expanduser()

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Index both folders.

        Raises:
            ValueError: if a folder is missing or the number of classes is another one.
        """
        folders = {
            name: ClassFolders(self.root / name, self.image_size) for name in ("train", "val")
        }
        for name, folder in folders.items():
            if len(folder.classes) != self.num_classes:
                raise ValueError(
                    f"{self.root / name} has {len(folder.classes)} classes, but data.num_classes "
                    f"is {self.num_classes}: set data.num_classes={len(folder.classes)}."
                )
        self.train_set, self.val_set = folders["train"], folders["val"]


class _Pairs(Dataset[Sample]):
    """Images and labels in memory."""

    def __init__(self, data: LabelledImages) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.labels)

    def __getitem__(self, index: int) -> Sample:
        return self.data.images[index], self.data.labels[index]
