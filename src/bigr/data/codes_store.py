"""Packed codes on disk: shards in safetensors, a manifest that says what made them.

A store is a folder::

    manifest.json             settings, and once it is complete: shards, counts, checksums
    train-00000.safetensors   codes (n, V, bytes) uint8, labels (n,) uint16, indices (n,) uint32
    val-00000.safetensors     and so on

V pictures of an image and draws of their bits: view v, draw d is entry v * num_draws + d. Indices
are those of the images in their source. Images that couldn't be decoded are in no shard's codes
but in its ``broken`` (JSON bytes).
"""

from __future__ import annotations

import dataclasses
import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigr.data.broken import BrokenImage
from bigr.data.files import sha256

MANIFEST = "manifest.json"
FORMAT = "bigr-codes"
VERSION = 1
DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32}

Arrays = dict[str, NDArray[Any]]


class StoreError(ValueError):
    """A store that can't be used or written; says why and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Everything that decides what a store holds."""

    tokenizer_sha256: str
    """Of the B-AE's weights, whatever file they come from."""
    code_dim: int
    grid_size: int
    image_size: int
    num_classes: int
    views: tuple[str, ...]
    num_views: int
    """Pictures of an image: ten_crop counts as ten."""
    num_draws: int
    deterministic: bool
    seed: int
    decoder: str
    honour_exif: bool
    precision: str
    shard_size: int
    sources: dict[str, str]
    """By split, the SHA-256 of its list of images."""
    num_images: dict[str, int]
    """By split, of its source."""
    classes: tuple[str, ...]

    @property
    def entries(self) -> int:
        """V: entries of an image."""
        return self.num_views * self.num_draws

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry."""
        return self.grid_size**2 * self.code_dim // 8

    def num_shards(self, split: str) -> int:
        """Shards of a split."""
        return -(-self.num_images[split] // self.shard_size)


def shard_name(split: str, number: int) -> str:
    """File name of a shard."""
    return f"{split}-{number:05d}.safetensors"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a store, complete or not.

    Raises:
        StoreError: if there is none that can be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT or manifest["version"] != VERSION:
            raise StoreError(f"{path} is of another version than {FORMAT} {VERSION}.")
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} holds no codes (there is no {MANIFEST}): make them with "
            "python -m bigr.tokenize."
        ) from error
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise StoreError(f"{path} can't be read: {error}.") from error
    return dict(manifest)


class CodesStore:
    """A complete store, memory-mapped.

    Args:
        folder: of the store.

    Raises:
        StoreError: if it is incomplete, or a shard isn't what the manifest says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        if "shards" not in manifest:
            raise StoreError(
                f"{folder} isn't finished: give its python -m bigr.tokenize command again."
            )
        values = manifest["settings"]
        for name in ("views", "classes"):
            values[name] = tuple(values[name])
        self.settings = StoreSettings(**values)
        self.shards: dict[str, list[dict[str, Any]]] = manifest["shards"]

    def split(self, name: str) -> PackedCodes:
        """Codes of a split; ``StoreError`` if there is none."""
        if name not in self.shards:
            raise StoreError(f"{self.folder} has no split {name}, only {', '.join(self.shards)}.")
        shards = []
        for about in self.shards[name]:
            arrays = read_shard(self.folder / about["file"])
            if len(arrays["labels"]) != about["images"]:
                raise StoreError(
                    f"{self.folder / about['file']} has {len(arrays['labels'])} images, and "
                    f"{MANIFEST} says {about['images']}: it was changed; make the store again."
                )
            shards.append(arrays)
        return PackedCodes(shards, self.settings.entries)

    def verify(self) -> None:
        """Compare every shard with its checksum; reads everything.

        Raises:
            StoreError: naming a shard that is damaged.
        """
        for shard in (about for shards in self.shards.values() for about in shards):
            if sha256(self.folder / shard["file"]) != shard["sha256"]:
                raise StoreError(
                    f"{self.folder / shard['file']} is damaged (another checksum): remove it, and "
                    "give the python -m bigr.tokenize command again."
                )


class PackedCodes:
    """Codes of one split. An index is image * V + entry.

    Args:
        shards: memory-mapped arrays, in order.
        num_entries: V.
    """

    def __init__(self, shards: list[Arrays], num_entries: int) -> None:
        shards = [shard for shard in shards if len(shard["labels"])]
        self.num_entries = num_entries
        self.labels = np.concatenate(
            [np.asarray(shard["labels"], np.int64) for shard in shards] or [np.empty(0, np.int64)]
        )
        self._codes = [shard["codes"].reshape(-1, shard["codes"].shape[-1]) for shard in shards]
        self._starts = np.cumsum([0, *(len(codes) for codes in self._codes)])

    def __len__(self) -> int:
        """Images."""
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Entries (B, bytes) uint8, copied out of the map shard by shard."""
        if len(self._codes) == 1:
            return self._codes[0][indices]
        taken = np.empty((len(indices), self._codes[0].shape[1]), np.uint8)
        by_place = np.argsort(indices)  # neighbours on disk one after the other
        ordered = indices[by_place]
        bounds = np.searchsorted(ordered, self._starts)
        for shard in np.flatnonzero(np.diff(bounds)):
            part = slice(bounds[shard], bounds[shard + 1])
            taken[by_place[part]] = self._codes[shard][ordered[part] - self._starts[shard]]
        return taken

    def iterate(self, entry: int) -> Iterator[NDArray[np.uint8]]:
        """One entry of every image, shard by shard, (n, bytes)."""
        for codes in self._codes:
            yield codes[entry :: self.num_entries]


def read_shard(path: Path) -> Arrays:
    """Memory-mapped arrays of a shard.

    Raises:
        StoreError: if the file is missing or broken.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        size = int.from_bytes(mapped[:8], "little")
        header = json.loads(mapped[8 : 8 + size])
        arrays: Arrays = {}
        for name, about in header.items():
            start, stop = about["data_offsets"]
            flat = np.frombuffer(
                mapped,
                dtype=DTYPES[about["dtype"]],
                count=int(np.prod(about["shape"])),
                offset=8 + size + start,
            )
            arrays[name] = flat.reshape(about["shape"])
            if flat.nbytes != stop - start:
                raise ValueError("wrong offsets")
        if len(arrays["codes"]) != len(arrays["labels"]):
            raise ValueError("wrong counts")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is missing or broken ({error}): remove it, and give the python -m "
            "bigr.tokenize command again."
        ) from error
    return arrays


def broken_in(arrays: Arrays) -> list[tuple[int, BrokenImage]]:
    """Images that a shard left out, with their indices."""
    listed = json.loads(arrays["broken"].tobytes())
    return [(index, BrokenImage(name, reason)) for index, name, reason in listed]
