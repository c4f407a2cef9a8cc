"""Prepared codes of the released trainer: one byte per bit, bit by bit over the grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigr.data.codes_format import StoreError
from bigr.data.codes_store import CodesStore
from bigr.data.files import replacing, write_atomically

IDS = "{}_ids.bin"
LABELS = "{}_lbs.bin"


class ReleasedCodes:
    """Codes in ``<split>_ids.bin`` (n, K, h, w) uint8 and labels in ``<split>_lbs.bin`` uint16.

    Args:
        folder: folder with both files.
        split: ``train`` or ``val``.
        code_dim: number of bits per token K.
        grid_size: side of the token grid, h = w.

    Raises:
        StoreError: if a file is missing, or the sizes do not fit.
    """

    num_entries = 1

    def __init__(self, folder: Path, split: str, code_dim: int, grid_size: int) -> None:
        paths = [folder / name.format(split) for name in (IDS, LABELS)]
        for path in paths:
            if not path.is_file() or path.stat().st_size == 0:
                raise StoreError(f"{path} is missing, empty, or not a regular file.")
        self.labels = np.fromfile(paths[1], dtype=np.uint16).astype(np.int64)
        self.bits = code_dim * grid_size**2
        size = paths[0].stat().st_size
        if size != len(self.labels) * self.bits:
            raise StoreError(
                f"{paths[0]} has {size} bytes, but {len(self.labels)} labels with {code_dim} bits "
                f"on {grid_size}x{grid_size} tokens need {len(self.labels) * self.bits}: choose "
                "another autoencoder=… or resolution=…, or copy the files again."
            )
        self._codes = np.memmap(paths[0], np.uint8, "r", shape=(len(self.labels), self.bits))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the bits of the images with the given indices: (B, K*h*w) uint8 of 0 and 1.

        Raises:
            StoreError: if a byte is neither 0 nor 1; these files contain no checksums.
        """
        taken: NDArray[np.uint8] = np.asarray(self._codes)[indices]
        if taken.size and taken.max() > 1:
            raise StoreError(
                f"{self._codes.filename} is damaged (it has bytes above 1): copy it again."
            )
        return taken


def has_released(folder: Path, split: str = "train") -> bool:
    """Return whether ``folder`` contains codes of a split in this format."""
    return (folder / IDS.format(split)).is_file()


def write_released(store: CodesStore, folder: Path) -> list[Path]:
    """Convert a store; each view and draw becomes an image. The files are 8 times as large.

    Args:
        store: a complete store.
        folder: output folder, which is created if necessary.

    Returns:
        The paths of the files.

    Raises:
        StoreError: if the files exist, or the store is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for split, codes in [(split, store.split(split)) for split in store.shards]:
        ids, labels = (folder / name.format(split) for name in (IDS, LABELS))
        if ids.exists():
            raise StoreError(f"{ids} already exists: choose another folder.")
        tiled = np.tile(codes.labels, codes.num_entries).astype(np.uint16)
        write_atomically(labels, tiled.tobytes())
        with replacing(ids) as temporary, temporary.open("wb") as file:
            for entry in range(codes.num_entries):
                for packed in codes.iterate(entry):
                    bits = np.unpackbits(packed, axis=1)
                    tokens = bits.reshape(len(bits), -1, store.settings.code_dim)
                    file.write(np.ascontiguousarray(tokens.transpose(0, 2, 1)).data)
        written += [ids, labels]
    return written
