"""A dataset with plain ``(image, label)`` batches."""

from __future__ import annotations

from typing import Annotated

import lightning
import torch
from annotated_types import Ge
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

CLASSES = ("horizontal", "vertical")


def draw_stripes(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return images (B, 3, size, size) in [0, 1] of stripes with random phases and colours.

    Args:
        labels: (B,) 0 for horizontal and 1 for vertical stripes.
        size: height and width in pixels.
        generator: draws the phases and the colours.
    """
    phases = torch.randint(4, (len(labels), 1), generator=generator)
    is_bright = ((torch.arange(size) + phases) // 2 % 2).float()  # (B, size)
    along = torch.where(labels[:, None, None] == 0, is_bright[:, :, None], is_bright[:, None, :])
    colours = torch.rand(len(labels), 3, 1, 1, generator=generator) * 0.5 + 0.5
    return along[:, None] * colours


class StripesDataModule(lightning.LightningDataModule):
    """Horizontal and vertical stripes.

    ``num_classes`` and ``image_size`` are public, so that a task can compare them with its own.

    Args:
        image_size: height and width in pixels.
        num_train: number of training images.
        batch_size: number of images per batch and device.
        seed: of the images.
    """

    def __init__(
        self,
        *,
        image_size: int = 8,
        num_train: Annotated[int, Ge(2)] = 256,
        batch_size: Annotated[int, Ge(1)] = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.num_classes = len(CLASSES)
        self.num_train = num_train
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the training batches in random order."""
        return self._loader(self.num_train, self.seed, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the validation batches."""
        return self._loader(self.batch_size, self.seed + 1, shuffle=False)

    def _loader(self, count: int, seed: int, *, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
        labels = torch.arange(count) % self.num_classes
        images = draw_stripes(labels, self.image_size, torch.Generator().manual_seed(seed))
        return DataLoader(TensorDataset(images, labels), self.batch_size, shuffle=shuffle)
