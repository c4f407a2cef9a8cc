"""File format of packed codes: shards in safetensors, and a manifest of their settings.

A store is a folder::

    manifest.json             settings; in a complete store also shards, counts and checksums
    train-00000.safetensors   codes (n, V, bytes) uint8, labels (n,) uint16, indices (n,) uint32
    val-00000.safetensors     and so on

Each image has V entries: entry v * num_draws + d is draw d of the bits of view v. ``indices`` are
the numbers of the images in their source. Images that could not be decoded are left out of a shard
and listed in its array ``broken``, as JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from bigr.data.broken import BrokenImage
from bigr.data.files import sha256
from bigr.schema import PositiveInt, check_fields, from_dict

MANIFEST = "manifest.json"
FORMAT = "bigr-codes"
VERSION = 1
SHARD_TYPES = {"codes": np.uint8, "labels": np.uint16, "indices": np.uint32, "broken": np.uint8}

Arrays = dict[str, NDArray[Any]]


class StoreError(ValueError):
    """A store cannot be read or written; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Everything that determines the content of a store."""

    tokenizer_sha256: str
    """Checksum of the weights of the B-AE, independent of their file."""
    code_dim: PositiveInt
    grid_size: PositiveInt
    image_size: PositiveInt
    num_classes: PositiveInt
    views: tuple[str, ...]
    num_views: PositiveInt
    """Number of views per image; ten_crop counts as ten."""
    num_draws: PositiveInt
    deterministic: bool
    seed: int
    decoder: str
    honour_exif: bool
    precision: str
    shard_size: PositiveInt
    """Number of images per shard, except for the last one."""
    sources: dict[str, str]
    """By split, the checksum of the list of images."""
    num_images: dict[str, int]
    """By split, the number of images in the source."""
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def entries(self) -> int:
        """Number of entries per image V."""
        return self.num_views * self.num_draws

    @property
    def entry_bytes(self) -> int:
        """Size of one entry in bytes."""
        return self.grid_size**2 * self.code_dim // 8

    def num_shards(self, split: str) -> int:
        """Return the number of shards of a split."""
        return -(-self.num_images[split] // self.shard_size)


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard."""
    return f"{split}-{number:05d}.safetensors"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a store, which may be incomplete.

    Raises:
        StoreError: if there is no manifest of this format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT or manifest["version"] != VERSION:
            raise StoreError(f"{path} has another format or version than {FORMAT} {VERSION}.")
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} contains no codes (there is no {MANIFEST}): create them with "
            "python -m bigr.tokenize."
        ) from error
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise StoreError(f"{path} can't be read: {error}.") from error
    return dict(manifest)


class CodesStore:
    """A complete store, which is read by memory mapping.

    Args:
        folder: folder of the store.

    Raises:
        StoreError: if the store is incomplete or can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        if "shards" not in manifest:
            raise StoreError(
                f"{folder} is incomplete: run its python -m bigr.tokenize command again."
            )
        try:
            self.settings: StoreSettings = from_dict(StoreSettings, manifest["settings"])
        except (ValueError, KeyError) as error:
            raise StoreError(f"{folder / MANIFEST} can't be read: {error}") from error
        self.shards: dict[str, list[dict[str, Any]]] = manifest["shards"]

    def split(self, name: str) -> PackedCodes:
        """Open the codes of a split.

        Raises:
            StoreError: if there is no such split, or a shard differs from the manifest.
        """
        if name not in self.shards:
            raise StoreError(f"{self.folder} has no split {name}, only {', '.join(self.shards)}.")
        shards = []
        for about in self.shards[name]:
            arrays = read_shard(self.folder / about["file"])
            if len(arrays["labels"]) != about["images"]:
                raise StoreError(
                    f"{self.folder / about['file']} has {len(arrays['labels'])} images, but "
                    f"{MANIFEST} says {about['images']}: the file was changed; create the store "
                    "again."
                )
            shards.append(arrays)
        return PackedCodes(shards, self.settings.entries)

    def verify(self) -> None:
        """Compare all shards with their checksums, which reads the whole store.

        Raises:
            StoreError: naming the first damaged shard.
        """
        for shard in (about for shards in self.shards.values() for about in shards):
            if sha256(self.folder / shard["file"]) != shard["sha256"]:
                raise StoreError(
                    f"{self.folder / shard['file']} is damaged (its checksum differs): remove it, "
                    "and run the python -m bigr.tokenize command again."
                )


class PackedCodes:
    """The packed codes of one split; index i * V + v is entry v of image i.

    Args:
        shards: arrays of the shards, in order.
        num_entries: number of entries per image V.
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
        """Return the number of images."""
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Copy the entries with the given indices (B,) from disk: (B, bytes) uint8."""
        if len(self._codes) == 1:
            return self._codes[0][indices]
        taken = np.empty((len(indices), self._codes[0].shape[1]), np.uint8)
        by_place = np.argsort(indices)  # reads neighbours on disk one after the other
        ordered = indices[by_place]
        bounds = np.searchsorted(ordered, self._starts)
        for shard in np.flatnonzero(np.diff(bounds)):
            part = slice(bounds[shard], bounds[shard + 1])
            taken[by_place[part]] = self._codes[shard][ordered[part] - self._starts[shard]]
        return taken

    def iterate(self, entry: int) -> Iterator[NDArray[np.uint8]]:
        """Yield one entry of every image, shard by shard: (n, bytes) uint8."""
        for codes in self._codes:
            yield codes[entry :: self.num_entries]


def read_shard(path: Path) -> Arrays:
    """Map the arrays of a shard into memory.

    Raises:
        StoreError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:  # maps the file, which framework="np" does not
            arrays: Arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
        if {name: array.dtype for name, array in arrays.items()} != SHARD_TYPES:
            raise ValueError(f"it needs the arrays {', '.join(SHARD_TYPES)}")
        if arrays["codes"].ndim != 3 or len(arrays["codes"]) != len(arrays["labels"]):
            raise ValueError("the numbers of codes and labels differ")
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} is missing or broken ({error}): remove it, and run the python -m "
            "bigr.tokenize command again."
        ) from error
    return arrays


def broken_in(arrays: Arrays) -> list[tuple[int, BrokenImage]]:
    """Return the images that a shard leaves out, with their numbers in the source."""
    listed = json.loads(arrays["broken"].tobytes())
    return [(index, BrokenImage(name, reason)) for index, name, reason in listed]
