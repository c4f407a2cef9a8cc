"""The released trainer's files of prepared codes: one byte per bit, bit-plane first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigr.data.codes_store import CodesStore, StoreError
from bigr.data.files import replacing

IDS = "{}_ids.bin"
LABELS = "{}_lbs.bin"


class ReleasedCodes:
    """``<split>_ids.bin`` (n, K, h, w) uint8 of 0/1 and ``<split>_lbs.bin`` (n,) uint16.

    Args:
        folder: with both files.
        split: ``train`` or ``val``.
        code_dim: K.
        grid_size: h = w.

    Raises:
        StoreError: if a file is missing, or the sizes don't fit each other.
    """

    num_entries = 1

    def __init__(self, folder: Path, split: str, code_dim: int, grid_size: int) -> None:
        paths = [folder / name.format(split) for name in (IDS, LABELS)]
        for path in paths:
            if not path.is_file() or path.stat().st_size == 0:
                raise StoreError(f"{path} is missing or empty.")
        self.labels = np.fromfile(paths[1], dtype=np.uint16).astype(np.int64)
        self.bits = code_dim * grid_size**2
        size = paths[0].stat().st_size
        if size != len(self.labels) * self.bits:
            raise StoreError(
                f"{paths[0]} has {size} bytes, and {len(self.labels)} labels with {code_dim} bits "
                f"on {grid_size}x{grid_size} tokens need {len(self.labels) * self.bits}: choose "
                "another code=… or resolution=…, or get the files again."
            )
        self._codes = np.memmap(paths[0], np.uint8, "r", shape=(len(self.labels), self.bits))

    def __len__(self) -> int:
        """Images."""
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(B, K*h*w) uint8 of 0/1."""
        return np.asarray(self._codes)[indices]


def has_released(folder: Path, split: str = "train") -> bool:
    """Whether the files of a split are there."""
    return (folder / IDS.format(split)).is_file()


def write_released(store: CodesStore, folder: Path) -> list[Path]:
    """A store as the released trainer's files; each view and draw becomes an image of its own.

    Args:
        store: complete.
        folder: to write into; made if it isn't there.

    Returns:
        The files. They take 8 times the store's space.

    Raises:
        StoreError: if they are there already.
    """
    settings = store.settings
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for split in store.shards:
        codes = store.split(split)
        ids, labels = (folder / name.format(split) for name in (IDS, LABELS))
        if ids.exists():
            raise StoreError(f"{ids} is already there: choose another folder.")
        np.tile(codes.labels, codes.num_entries).astype(np.uint16).tofile(labels)
        with replacing(ids) as temporary, temporary.open("wb") as file:
            for entry in range(codes.num_entries):
                for packed in codes.iterate(entry):
                    bits = np.unpackbits(packed, axis=1)
                    tokens = bits.reshape(len(bits), -1, settings.code_dim)
                    file.write(np.ascontiguousarray(tokens.transpose(0, 2, 1)).data)
        written += [ids, labels]
    return written
