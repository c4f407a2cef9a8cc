"""A dataset with plain ``(image, label)`` batches."""

from __future__ import annotations

from typing import Annotated

import lightning
import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1))
"""Where the stripes of each class change, in rows and columns; class 0 has horizontal stripes."""


def draw_stripes(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return images (B, 3, size, size) in [0, 1] of stripes with random phases and colours.

    Args:
        labels: (B,) positions in :data:`DIRECTIONS`.
        size: height and width in pixels.
        generator: draws the phases and the colours.
    """
    down, across = torch.tensor(DIRECTIONS)[labels].T[..., None, None]  # each (B, 1, 1)
    phases = torch.randint(2, (len(labels), 1, 1), generator=generator)
    rows, columns = torch.arange(size)[:, None], torch.arange(size)[None, :]
    is_bright = (down * rows + across * columns + phases) // 2 % 2
    colours = torch.rand(len(labels), 3, 1, 1, generator=generator) * 0.5 + 0.5
    return is_bright[:, None] * colours


class StripesDataModule(lightning.LightningDataModule):
    """Stripes of two pixels, with their directions as labels.

    Args:
        image_size: height and width in pixels.
        num_classes: number of directions.
        num_train: number of training images.
        batch_size: number of images per batch and device.
        seed: of the images and their order.
    """

    def __init__(
        self,
        *,
        image_size: Annotated[int, Ge(4)],
        num_classes: Annotated[int, Ge(2), Le(len(DIRECTIONS))] = 2,
        num_train: Annotated[int, Ge(1)] = 256,
        batch_size: Annotated[int, Ge(1)] = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.num_classes = num_classes
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
