"""The DataModule of packed codes: nothing is decoded or encoded, the generator never waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bigr.data.codes_store import CodesStore, PackedCodes, StoreError
from bigr.data.packing import unpack_codes
from bigr.data.released_codes import ReleasedCodes, has_released
from bigr.training.data.batch import Batch
from bigr.training.data.image_data import ResumableDataModule

SPLITS = ("train", "val")


class CodesDataModule(ResumableDataModule):
    """Codes made by ``python -m bigr.tokenize``, or the released trainer's ``.bin`` files.

    Each epoch takes one view and draw of every training image, and the first of every validation
    image. Batches are fetched at once and unpacked on the device.

    Args:
        root: folder of the store, or of ``train_ids.bin``.
        code_dim: bits per token that the generator learns; None accepts those of a store.
        grid_size: tokens per side that it learns; None accepts those of a store.
        num_classes: that the labels may have.
        batch_size: per device.
        num_workers: loader processes; reading is so cheap that none is needed.
        seed: of the order and the choice of views.

    Raises:
        StoreError: if there are no codes, or others.
    """

    def __init__(
        self,
        *,
        root: str,
        code_dim: int | None = None,
        grid_size: int | None = None,
        num_classes: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_classes=num_classes, batch_size=batch_size, num_workers=num_workers, seed=seed
        )
        self.root = Path(root).expanduser()
        self.code_dim = code_dim
        self.grid_size = grid_size
        self.tokenizer_sha256: str | None = None
        """Of the B-AE that made the codes, once set up; the released files don't say."""
        self._sets: dict[str, _CodesSet] = {}

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Open both splits.

        Raises:
            StoreError: if they aren't what the generator learns.
        """
        if self._sets:
            return
        self.is_packed = not has_released(self.root)
        splits = self._open_store() if self.is_packed else self._open_released()
        for name, codes in splits.items():
            if len(codes) and codes.labels.max() >= self.num_classes:
                raise StoreError(
                    f"data.root={self.root} has labels up to {codes.labels.max()}, but "
                    f"data.num_classes is {self.num_classes}."
                )
            if len(codes) == 0:
                raise StoreError(f"data.root={self.root} has no {name} codes.")
        self._sets = {name: _CodesSet(codes) for name, codes in splits.items()}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches; every process gets its own share."""
        train = self._sets["train"]
        order = self._order(len(train.codes), num_views=train.codes.num_entries)
        return self._loader(train, order, _as_is)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation batches, in order; every process gets its own share."""
        if "val" not in self._sets:
            return self._loader(self._sets["train"], [], _as_is)
        codes = self._sets["val"].codes
        share = [[i * codes.num_entries for i in batch] for batch in self._share(len(codes))]
        return self._loader(self._sets["val"], share, _as_is)

    def num_images(self, split: str) -> int:
        """Images of ``train`` or ``val``, once set up; 0 if there is no such split."""
        return len(self._sets[split].codes) if split in self._sets else 0

    def ordered_loader(self, split: str, batches: Sequence[Sequence[int]]) -> DataLoader[Batch]:
        """Batches of these images of ``train`` or ``val``: the first view and draw."""
        codes = self._sets[split]
        indices = [[i * codes.codes.num_entries for i in batch] for batch in batches]
        return self._loader(codes, indices, _as_is)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Bytes to bits (B, N, K), on the device."""
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
                    f"learns {ours}: choose another {fix}=… or other codes."
                )
        if settings.num_classes != self.num_classes:
            raise StoreError(
                f"data.root={self.root} has {settings.num_classes} classes, but data.num_classes "
                f"is {self.num_classes}: set data.num_classes={settings.num_classes}."
            )
        self.tokenizer_sha256 = settings.tokenizer_sha256
        if "train" not in store.shards:
            raise StoreError(f"data.root={self.root} has no train split: tokenize that, too.")
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
    """Fetches a batch at once."""

    def __init__(self, codes: PackedCodes | ReleasedCodes) -> None:
        self.codes = codes
        self.labels = torch.from_numpy(codes.labels)

    def __len__(self) -> int:
        return len(self.codes) * self.codes.num_entries

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = np.asarray(indices, dtype=np.int64)
        labels = self.labels[torch.from_numpy(chosen // self.codes.num_entries)]
        return Batch(labels, codes=torch.from_numpy(self.codes.take(chosen)))


def _as_is(batch: Any) -> Any:
    return batch
