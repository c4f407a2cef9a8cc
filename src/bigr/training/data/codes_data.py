"""The data module of packed codes. Nothing is decoded or encoded during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bigr.data.codes_format import StoreError
from bigr.data.codes_store import CodesStore, PackedCodes
from bigr.data.packing import unpack_codes
from bigr.data.released_codes import ReleasedCodes, has_released
from bigr.schema import ExistingPath, PositiveInt, checked
from bigr.training.data.batch import Batch
from bigr.training.data.resumable_data import ResumableDataModule

SPLITS = ("train", "val")


class CodesDataModule(ResumableDataModule):
    """Codes made by ``python -m bigr.tokenize``, or ``.bin`` files for the released trainer.

    An epoch takes one view and draw of each training image, and the first of each validation
    image. Batches are read at once and unpacked on the device.

    Args:
        root: folder of the store, or of ``train_ids.bin``.
        code_dim: bits per token that the generator learns; None accepts those of a store.
        grid_size: tokens per side that the generator learns; None accepts those of a store.
        features: also return the features in the store, which takes more memory and time.
        **common: see :class:`ResumableDataModule`; reading is so cheap that ``num_workers=0`` is
            enough.
    """

    provides = "codes"

    @checked
    def __init__(
        self,
        *,
        root: ExistingPath,
        code_dim: PositiveInt | None = None,
        grid_size: PositiveInt | None = None,
        features: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.root = Path(root).expanduser()
        self.code_dim = code_dim
        self.grid_size = grid_size
        self.features = features
        self.tokenizer_sha256: str | None = None
        """Hash of the B-AE that made the codes, after ``setup``; None for released files."""
        self.image_size: int | None = None
        """Side of the images that the B-AE decodes in pixels, after ``setup``."""
        self.classes: list[str] | None = None
        """Names of the classes, after ``setup``; None for released files, which have none."""
        self._sets: dict[str, _CodesSet] = {}

    def setup(self, stage: str) -> None:
        """Open both splits.

        Raises:
            StoreError: if there are no codes, or not those that the generator learns.
        """
        if self._sets:
            return
        self.is_packed = not has_released(self.root)
        if self.features and not (self.is_packed and CodesStore(self.root).settings.feature_dim):
            raise StoreError(
                f"data.root={self.root} has no features: create the codes with python -m "
                "bigr.tokenize features=…, or set data.features=false."
            )
        splits = self._open_store() if self.is_packed else self._open_released()
        for name, codes in splits.items():
            if len(codes) == 0:
                raise StoreError(f"data.root={self.root} has no {name} codes.")
            if codes.labels.max() >= self.num_classes:
                raise StoreError(
                    f"data.root={self.root} has labels up to {codes.labels.max()}, but "
                    f"data.num_classes is {self.num_classes}."
                )
        self._sets = {name: _CodesSet(codes, self.features) for name, codes in splits.items()}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return this process's training batches."""
        train = self._sets["train"]
        order = self.train_order(len(train.codes), num_views=train.codes.num_entries)
        return self.loader(train, order, _identity)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return this process's validation batches; none if there is no such split."""
        if "val" not in self._sets:
            return self.loader(self._sets["train"], [], _identity)
        return self.ordered_loader("val", self.validation_order(self.num_images("val")))

    def num_images(self, split: str) -> int:
        """Return the number of images of ``train`` or ``val``; 0 if there is no such split."""
        return len(self._sets[split].codes) if split in self._sets else 0

    def ordered_loader(self, split: str, batches: Sequence[Sequence[int]]) -> DataLoader[Batch]:
        """Return batches of the given images of a split: of each, the first view and draw."""
        codes = self._sets[split]
        indices = [[i * codes.codes.num_entries for i in batch] for batch in batches]
        return self.loader(codes, indices, _identity)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Unpack bytes to bits (B, N, K), on the device."""
        if batch.codes is None or batch.codes.dtype != torch.uint8:
            return batch
        assert self.code_dim is not None  # known since setup
        if self.is_packed:
            return batch._replace(codes=unpack_codes(batch.codes, self.code_dim))
        planes = batch.codes.unflatten(1, (self.code_dim, -1))
        return batch._replace(codes=planes.transpose(1, 2).float())

    def _open_store(self) -> dict[str, PackedCodes]:
        store = CodesStore(self.root)
        settings = store.settings
        for name, fix in (("code_dim", "autoencoder"), ("grid_size", "resolution")):
            theirs, ours = getattr(settings, name), getattr(self, name)
            if ours is None:
                setattr(self, name, theirs)
            elif theirs != ours:
                raise StoreError(
                    f"data.root={self.root} has codes with {name} {theirs}, and the generator "
                    f"learns {ours}: choose another {fix}=…, or other codes."
                )
        if settings.num_classes != self.num_classes:
            raise StoreError(
                f"data.root={self.root} has {settings.num_classes} classes, but data.num_classes "
                f"is {self.num_classes}: set data.num_classes={settings.num_classes}."
            )
        self.tokenizer_sha256 = settings.tokenizer_sha256
        self.image_size = settings.image_size
        self.classes = list(settings.classes)
        if "train" not in store.shards:
            raise StoreError(f"data.root={self.root} has no train split: tokenize it as well.")
        return {name: store.split(name) for name in SPLITS if name in store.shards}

    def _open_released(self) -> dict[str, ReleasedCodes]:
        code_dim, grid_size = self.code_dim, self.grid_size
        if code_dim is None or grid_size is None:
            raise StoreError(
                f"data.root={self.root} has files of the released trainer, which do not say how "
                "large the codes are: set data.code_dim and data.grid_size."
            )
        return {
            name: ReleasedCodes(self.root, name, code_dim, grid_size)
            for name in SPLITS
            if has_released(self.root, name)
        }


class _CodesSet(Dataset[Batch]):
    """The entries of a split, with their features if requested. Whole batches are read at once."""

    def __init__(self, codes: PackedCodes | ReleasedCodes, has_features: bool = False) -> None:
        self.codes = codes
        self.has_features = has_features
        self.labels = torch.from_numpy(codes.labels)

    def __len__(self) -> int:
        return len(self.codes) * self.codes.num_entries

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = np.asarray(indices, dtype=np.int64)
        labels = self.labels[torch.from_numpy(chosen // self.codes.num_entries)]
        features = None
        if self.has_features and isinstance(self.codes, PackedCodes):
            features = torch.from_numpy(self.codes.take_features(chosen))
        return Batch(labels, codes=torch.from_numpy(self.codes.take(chosen)), features=features)


def _identity(batch: Any) -> Any:
    return batch
