"""Images on disk that an evaluation compares, as uint8, read in parts."""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bigr.data.array_files import check_archive, naming, npz_names, read_header, read_npz
from bigr.data.digits import NATIVE_SIZE, load_digits
from bigr.data.files import check_regular, sha256
from bigr.data.image_arrays import to_uint8
from bigr.data.image_dataset import ImageSet, MemoryImages
from bigr.data.sources.find import find_any
from bigr.data.sources.folder import FolderSource
from bigr.data.sources.source import ImageSource

DIGITS = "digits"
Split = Literal["train", "val", "train_even", "train_odd", "val_even", "val_odd"]
"""A split of a dataset, or a half of it: its images with even or odd numbers, from 0 on."""
MAX_CLASSES = 2**16
HALVES = {"even": 0, "odd": 1}
"""Number of the first image of each half."""


class DatasetImages:
    """The images of a dataset.

    Args:
        images: the dataset.
        folder: its files, whose sizes and times of change become part of the fingerprint.
        title: the setting that names the dataset, for messages.
    """

    def __init__(
        self,
        images: ImageSet | MemoryImages,
        folder: Path | None = None,
        title: str = "images",
    ) -> None:
        self.images = images
        self.folder = folder
        self.title = title

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        if isinstance(self.images, ImageSet):
            return self.images.image_size
        return int(self.images.data.images.shape[-1])

    def labels(self) -> Tensor | None:
        """Return the classes (n,) int64 of the images; None if there are fewer than two."""
        if isinstance(self.images, ImageSet):
            found = torch.from_numpy(self.images.source.labels)
        else:
            found = self.images.data.labels
        return found if len(found.unique()) > 1 else None

    def name(self, index: int) -> str:
        """Return the name under which users find an image."""
        return self.images.name(index)

    def fingerprint(self) -> str:
        """Return a checksum of the dataset that also changes when one of its files is replaced."""
        digest = hashlib.sha256(self.images.fingerprint().encode())
        for name, size, time_ns in files_below(self.folder) if self.folder else ():
            digest.update(f"{name}\n{size}\n{time_ns}\n".encode())
        return digest.hexdigest()

    def batch(self, indices: range) -> Tensor:
        """Return some of the images, (B, 3, H, W) uint8.

        Raises:
            ValueError: if an image is broken, which the dataset would replace by another one.
        """
        samples = [self.images[index] for index in indices]
        broken = [image for sample in samples for image in sample.broken]
        if broken:
            raise ValueError(
                f"{self.title}: the image {broken[0].name} is broken ({broken[0].reason}): repair "
                "or remove it."
            )
        stacked = torch.stack([sample.image for sample in samples])
        return stacked if stacked.dtype == torch.uint8 else to_uint8(stacked)


class ArchivedImages:
    """``arr_0`` (m, H, W, 3) of an ``.npz``, read piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming(path):
            archive = zipfile.ZipFile(path)
            self.file = archive.open("arr_0.npy")  # lives as long as this object
            self.shape, is_fortran, dtype = read_header(self.file)
            self.start = self.file.tell()
            size = archive.getinfo("arr_0.npy").file_size - self.start
            if math.prod(self.shape) * dtype.itemsize != size:
                raise ValueError(f"arr_0 of shape {self.shape} has {size:,} bytes")
        if dtype != np.uint8 or is_fortran or len(self.shape) != 4 or self.shape[-1] != 3:
            raise ValueError(
                f"{path}: arr_0 is {dtype} of shape {self.shape}, not images (n, H, W, 3) of uint8."
            )

    def __len__(self) -> int:
        return int(self.shape[0])

    @property
    def image_size(self) -> int:
        """Side of the images in pixels; ``ValueError`` if they are not square."""
        height, width = self.shape[1:3]
        if height != width:
            raise ValueError(f"{self.path}: the images have {width}x{height} pixels, not squares.")
        return int(width)

    def labels(self) -> Tensor | None:
        """Return the classes (n,) int64 in ``arr_1``; None if there are fewer than two.

        Raises:
            ValueError: if a number cannot be that of a class.
        """
        found = read_npz(self.path, ["arr_1"]).get("arr_1")
        if found is None or found.shape != (len(self),) or found.dtype.kind not in "iu":
            return None
        if len(found) and not 0 <= found.min() <= found.max() < MAX_CLASSES:
            raise ValueError(
                f"{self.path}: arr_1 must contain the numbers of classes, from 0 to "
                f"{MAX_CLASSES - 1}, got {found.min()} to {found.max()}."
            )
        return torch.from_numpy(found.astype(np.int64)) if len(np.unique(found)) > 1 else None

    def name(self, index: int) -> str:
        """Return the file and the number of an image."""
        return f"{self.path}:{index}"

    def fingerprint(self) -> str:
        """Return the checksum of the file."""
        return sha256(self.path)

    def batch(self, indices: range) -> Tensor:
        """Return some of the images, (B, 3, H, W) uint8."""
        size = int(np.prod(self.shape[1:]))
        with naming(self.path):
            self.file.seek(self.start + indices.start * size)
            data = self.file.read((indices[-1] + 1 - indices.start) * size)
        pixels = np.frombuffer(data, np.uint8).reshape(-1, *self.shape[1:])[:: indices.step]
        return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).contiguous()


class HalfOfImages:
    """Every second image of a set, so that it can be compared with the others.

    Reconstructions of a test set are closer to their own originals than other images can be.
    Comparing those of one half with the originals of the other half avoids this.

    Args:
        images: the set.
        half: ``even`` or ``odd`` numbers.
    """

    def __init__(self, images: DatasetImages | ArchivedImages, half: str) -> None:
        self.images = images
        self.half = half
        self.numbers = range(HALVES[half], len(images), 2)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.images.image_size

    def labels(self) -> Tensor | None:
        """Return the classes (n,) int64 of the images; None if there are fewer than two."""
        found = self.images.labels()
        return None if found is None else found[self.numbers.start :: 2]

    def name(self, index: int) -> str:
        """Return the name under which users find an image."""
        return self.images.name(self.numbers[index])

    def fingerprint(self) -> str:
        """Return the checksum of the set with the name of the half."""
        return f"{self.images.fingerprint()} {self.half}"

    def batch(self, indices: range) -> Tensor:
        """Return some of the images, (B, 3, H, W) uint8."""
        return self.images.batch(self.numbers[indices.start : indices.stop : indices.step])


StoredImages = DatasetImages | ArchivedImages | HalfOfImages


def whole_split(split: str) -> str:
    """Return the split that a half belongs to; other splits are returned unchanged."""
    return split.split("_", maxsplit=1)[0]


def check_exists(where: str, key: str) -> None:
    """Raise ``ValueError`` unless ``where`` is the built-in dataset, or a file or folder exists."""
    if where != DIGITS and not Path(where).expanduser().exists():
        raise ValueError(f"{key}={where}: there is no such file or folder, seen from {Path.cwd()}.")


def find_images(
    where: str, key: str, *, image_size: int | None = None, split: str = "val"
) -> StoredImages:
    """Find the images of a folder, a file or a built-in dataset, or half of them.

    Args:
        where: an ``.npz`` with images ``arr_0``, ``digits``, or a folder that
            :func:`bigr.data.sources.find.find_any` can read.
        key: name of the setting, for messages.
        image_size: side of the square to which images of a folder are cropped, as ADM does. None
            expects squares of one size. The images of an ``.npz`` are never resized.
        split: split of a folder that has several, and of the digits; see :data:`Split`.

    Raises:
        ValueError: if there are no such images, or they have other sizes.
    """
    found = _find_whole(where, key, image_size, whole_split(split))
    half = split.removeprefix(f"{whole_split(split)}_")
    return HalfOfImages(found, half) if half in HALVES else found


def _find_whole(
    where: str, key: str, image_size: int | None, split: str
) -> DatasetImages | ArchivedImages:
    path = Path(where).expanduser()
    if where == DIGITS and not path.exists():
        size = image_size or NATIVE_SIZE
        return DatasetImages(
            MemoryImages(load_digits("test" if split == "val" else "train", size), DIGITS)
        )
    check_exists(where, key)
    if path.is_dir():
        if next(files_below(path), None) is None:
            raise ValueError(f"{key}={path} is an empty folder: name one with images.")
        try:
            source = find_any(path, split)
        except ValueError as error:
            raise ValueError(str(error).replace("data.root=", f"{key}=")) from error
        size = image_size or _common_size(source, key, path)
        folder = source.folder if isinstance(source, FolderSource) else path
        return DatasetImages(ImageSet(source, size, decoder="pil"), folder, f"{key}={where}")
    if check_regular(path).suffix != ".npz":
        raise ValueError(f"{key}={path} must be an .npz file, a folder, or {DIGITS}.")
    if "arr_0" not in npz_names(path):
        raise ValueError(
            f"{key}={path} contains no images, because it has no array arr_0: give a file with "
            "images arr_0 (n, H, W, 3) of uint8, or a folder."
        )
    check_archive(path)
    archived = ArchivedImages(path)
    if image_size is not None and archived.shape[1:3] != (image_size, image_size):
        height, width = archived.shape[1:3]
        raise ValueError(
            f"{key}={path} contains images of {height}x{width} pixels, but {image_size}x"
            f"{image_size} are compared: use a file for that size."
        )
    return archived


def _common_size(source: ImageSource, key: str, folder: Path) -> int:
    """Return the side of square images of one size; ``ValueError`` if they are something else."""
    first: tuple[int, int] | None = None
    for index in range(len(source)):
        try:
            with Image.open(io.BytesIO(source.read(index))) as picture:
                size = picture.size
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{key}={folder}: the image {source.name(index)} is broken (not an image): repair "
                "or remove it."
            ) from error
        first = first or size
        if size != first or size[0] != size[1]:
            raise ValueError(
                f"{key}={folder}: {source.name(index)} has {size[0]}x{size[1]} pixels, but all "
                "images must be squares of one size: evaluation.image_size=256 crops them to that."
            )
    assert first is not None  # the source has at least one image
    return first[0]


def files_below(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and time of change of every file below a folder, in order."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        for path in (Path(base, name) for name in sorted(names) if not name.startswith(".")):
            if path.is_file():
                state = path.stat()
                yield str(path.relative_to(folder)), state.st_size, state.st_mtime_ns
