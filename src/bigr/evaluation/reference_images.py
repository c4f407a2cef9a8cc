"""Real images to compare with, as uint8, piece by piece."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bigr.data.files import sha256
from bigr.data.image_arrays import to_uint8
from bigr.data.image_dataset import ImageSet, MemoryImages


class DatasetImages:
    """The images of a dataset."""

    def __init__(self, images: ImageSet | MemoryImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """Return the fingerprint of the dataset."""
        return self.images.fingerprint()

    def batch(self, indices: range) -> Tensor:
        """Return some of the images, (B, 3, H, W) uint8."""
        stacked = torch.stack([self.images[index].image for index in indices])
        return stacked if stacked.dtype == torch.uint8 else to_uint8(stacked)


class ArchivedImages:
    """``arr_0`` (m, H, W, 3) of an ``.npz`` that is not compressed, read piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = zipfile.ZipFile(path).open("arr_0.npy")  # noqa: SIM115  # lives as long as this
        version = np.lib.format.read_magic(self.file)
        read = np.lib.format.read_array_header_1_0
        if version[0] > 1:
            read = np.lib.format.read_array_header_2_0
        self.shape, order, dtype = read(self.file)
        if dtype != np.uint8 or order or len(self.shape) != 4 or self.shape[-1] != 3:
            raise ValueError(
                f"evaluation.reference={path}: arr_0 is {dtype} of shape {self.shape}, not images "
                "(n, H, W, 3) of uint8."
            )
        self.start = self.file.tell()

    def __len__(self) -> int:
        return int(self.shape[0])

    def fingerprint(self) -> str:
        """Return the checksum of the file."""
        return sha256(self.path)

    def batch(self, indices: range) -> Tensor:
        """Return some of the images, (B, 3, H, W) uint8."""
        size = int(np.prod(self.shape[1:]))
        self.file.seek(self.start + indices.start * size)
        data = self.file.read(len(indices) * size)
        pixels = np.frombuffer(data, np.uint8).reshape(-1, *self.shape[1:])
        return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).contiguous()


ReferenceImages = DatasetImages | ArchivedImages
