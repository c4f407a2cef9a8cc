"""CIFAR, MNIST and Fashion-MNIST in the files of their authors, which torchvision downloads."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bigr.data.files import check_regular
from bigr.data.sources.source import ImageSource

KnownDataset = Literal["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST"]
"""Names of torchvision's classes."""
CIFAR_FOLDERS = {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}
IDX_FOLDERS = {"MNIST": "MNIST/raw", "FashionMNIST": "FashionMNIST/raw", "": "."}
IDX_NAMES = {"train": "train", "val": "t10k"}
IDX_BYTES = 8
"""Code of unsigned bytes in the header of a file."""
BORDER = 2
"""Width in pixels of the black border, which enlarges 28x28 pixels to 32x32."""
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class ArraySource(ImageSource):
    """Images that are kept in memory as one array.

    Args:
        pixels: (n, H, W) or (n, H, W, 3) uint8.
        labels: (n,) numbers of classes.
        classes: names of the classes.
        title: first part of the names of the images.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], labels: Any, classes: Sequence[str], title: str
    ) -> None:
        super().__init__(np.asarray(labels, np.int64), classes)
        self.pixels = pixels
        self.title = title

    def name(self, index: int) -> str:
        """Return the title and the number of an image."""
        return f"{self.title}:{index}"

    def read(self, index: int) -> bytes:
        """Return an image in the format PPM, or PGM if it is grey."""
        image = self.pixels[index]
        magic = "P5" if image.ndim == 2 else "P6"
        return f"{magic} {image.shape[1]} {image.shape[0]} 255\n".encode() + image.tobytes()

    def _add_names(self, digest: hashlib._Hash) -> None:
        digest.update(np.ascontiguousarray(self.pixels).tobytes())


def find_arrays(root: Path, split: str) -> ArraySource | None:
    """Open a split of one of the datasets in ``root``, or return None if there is none.

    The files of MNIST and Fashion-MNIST may be compressed, and may be in ``root`` itself. Their
    images get a black border of two pixels, which makes 28x28 pixels 32x32.

    Raises:
        ValueError: if a file is missing or damaged.
    """
    for dataset, folder in CIFAR_FOLDERS.items():
        if (root / folder).is_dir():
            return _open_cifar(dataset, root, split)
    for dataset, folder in IDX_FOLDERS.items():
        if _idx_path(root / folder, f"{IDX_NAMES['train']}-images-idx3-ubyte") is not None:
            is_fashion = "fashion" in (dataset or root.resolve().name).lower()
            return _open_idx(root / folder, split, is_fashion)
    return None


def download(dataset: KnownDataset, root: Path) -> None:
    """Download a dataset to ``root`` with torchvision, which compares its checksum.

    Raises:
        ValueError: if it can't be downloaded.
    """
    import torchvision.datasets

    try:
        getattr(torchvision.datasets, dataset)(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"{dataset} can't be downloaded to {root} ({str(error).splitlines()[0]}): check the "
            "connection, or copy its files there."
        ) from error


def _open_cifar(dataset: str, root: Path, split: str) -> ArraySource:
    """Read CIFAR with torchvision, which accepts only files with the checksums of the originals.

    These files are pickles. The comparison ensures that no others are opened.
    """
    import torchvision.datasets

    try:
        found = getattr(torchvision.datasets, dataset)(str(root), train=split == "train")
    except RuntimeError as error:
        raise ValueError(
            f"{root / CIFAR_FOLDERS[dataset]} is incomplete or damaged: remove it, and download "
            "it again with data.download=true."
        ) from error
    return ArraySource(found.data, found.targets, found.classes, f"{dataset}/{split}")


def _open_idx(folder: Path, split: str, is_fashion: bool) -> ArraySource:
    prefix = IDX_NAMES[split]
    arrays = []
    for name, ndim in ((f"{prefix}-images-idx3-ubyte", 3), (f"{prefix}-labels-idx1-ubyte", 1)):
        path = _idx_path(folder, name)
        if path is None:
            raise ValueError(f"{folder} lacks {name}: download the dataset again.")
        arrays.append(read_idx(path, ndim))
    images, labels = arrays
    if len(images) != len(labels) or len(labels) == 0 or labels.max() > 9:
        raise ValueError(f"{folder}: the images and the labels of {prefix} do not fit together.")
    classes = FASHION_CLASSES if is_fashion else [str(digit) for digit in range(10)]
    images = np.pad(images, ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))
    return ArraySource(images, labels, classes, f"{'fashion' if is_fashion else 'mnist'}/{split}")


def _idx_path(folder: Path, name: str) -> Path | None:
    found = (folder / name, folder / f"{name}.gz")
    return next((path for path in found if path.is_file()), None)


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Read an array of bytes in the format of MNIST, which may be compressed by gzip.

    Raises:
        ValueError: if the file is damaged, or its array has other than ``ndim`` dimensions.
    """
    try:
        data = check_regular(path).read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): download it again.") from error
    header = 4 + 4 * ndim
    shape = np.frombuffer(data[4:header], ">i4") if len(data) >= header else np.zeros(0)
    is_sound = data[:4] == bytes([0, 0, IDX_BYTES, ndim]) and (shape >= 0).all()
    if not is_sound or len(data) != header + math.prod(shape.tolist()):
        raise ValueError(f"{path} is damaged: download it again.")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape.astype(int))
