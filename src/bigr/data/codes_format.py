"""File format of packed codes: shards in safetensors, and a manifest of their settings.

A store is a folder::

    manifest.json             settings; in a complete store also shards, counts and checksums
    train-00000.safetensors   codes (n, V, bytes) uint8, labels (n,) uint16, indices (n,) uint32
    val-00000.safetensors     and so on

Each image has V entries: entry v * num_draws + d is draw d of the bits of view v. ``indices`` are
the numbers of the images in their source. Images that could not be decoded are left out of a shard
and listed in its array ``broken``, as JSON. The manifest contains a checksum of its own content.
While a store is incomplete, the checksum of each shard is in a file next to it, with the same name
and the suffix ``.sha256``, in the format of the program ``sha256sum``.

A store may also contain features of the views by a frozen encoder: an array ``features`` (n, views,
N, C) float16 in every shard, for N tokens. The draws of a view share its features.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from bigr.data.broken import BrokenImage
from bigr.data.files import check_regular
from bigr.data.sealed_json import DamagedFileError, read_sealed
from bigr.schema import NonNegativeInt, PositiveInt, check_fields, from_dict

MANIFEST = "manifest.json"
FORMAT = "bigr-codes"
VERSION = 1
MANIFEST_KEYS = ("format", "version", "settings", "images", "left_out", "shards")
SPLITS = ("train", "val")
SHARD_TYPES = {"codes": np.uint8, "labels": np.uint16, "indices": np.uint32, "broken": np.uint8}
FEATURES = "features"
FEATURE_TYPE = np.float16
REPAIR = "remove it, and run the python -m bigr.tokenize command again"
RESTORE = "restore it from a copy, or create the codes again in another folder"

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
    num_images: dict[str, NonNegativeInt]
    """By split, the number of images in the source."""
    classes: tuple[str, ...]
    feature_dim: NonNegativeInt = 0
    """Width C of the features; 0 means that there are none."""
    feature_encoder: str = ""
    """Text that identifies the encoder of the features and its weights."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not set(self.num_images) <= set(SPLITS):
            raise ValueError(f"the splits are {', '.join(self.num_images)}, not train and val.")

    @property
    def entries(self) -> int:
        """Number of entries per image V."""
        return self.num_views * self.num_draws

    @property
    def entry_bytes(self) -> int:
        """Size of one entry in bytes."""
        return self.grid_size**2 * self.code_dim // 8

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """Shape of the features of an image: views, tokens and C."""
        return (self.num_views, self.grid_size**2, self.feature_dim)

    @property
    def image_bytes(self) -> int:
        """Size of all entries and features of an image in bytes."""
        features = math.prod(self.feature_shape) * np.dtype(FEATURE_TYPE).itemsize
        return self.entries * self.entry_bytes + features

    def num_shards(self, split: str) -> int:
        """Return the number of shards of a split."""
        return -(-self.num_images[split] // self.shard_size)

    def images_of(self, split: str, number: int) -> range:
        """Return the numbers of the images of a shard, with those that may be left out."""
        first = number * self.shard_size
        return range(first, min(first + self.shard_size, self.num_images[split]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredShard:
    """What the manifest says about a shard."""

    file: str
    images: NonNegativeInt
    sha256: str

    def __post_init__(self) -> None:
        check_fields(self)


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard."""
    return f"{split}-{number:05d}.safetensors"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a store, which may be incomplete.

    Manifests of versions that wrote no checksum are accepted.

    Raises:
        StoreError: if there is no manifest of this format, or it was changed.
    """
    path = folder / MANIFEST
    try:
        manifest = read_sealed(path, needs_checksum=False)
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} contains no codes (there is no {MANIFEST}): create them with "
            "python -m bigr.tokenize."
        ) from error
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error.strerror}.") from error
    except DamagedFileError as error:
        raise StoreError(f"{error}: {RESTORE}.") from error
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise StoreError(f"{path} has another format or version than {FORMAT} {VERSION}.")
    unknown = [name for name in manifest if name not in MANIFEST_KEYS]
    if unknown or not isinstance(manifest.get("settings"), dict):
        problem = f"unknown key {unknown[0]}" if unknown else "no settings"
        raise StoreError(f"{path} is damaged ({problem}): {RESTORE}.")
    return manifest


def read_shards(
    folder: Path, manifest: dict[str, Any], settings: StoreSettings
) -> dict[str, list[StoredShard]]:
    """Return what the manifest of a complete store says about its shards, by split.

    Raises:
        StoreError: if it does not fit the settings.
    """
    listed = manifest["shards"]
    try:
        if not isinstance(listed, dict) or listed.keys() != settings.num_images.keys():
            raise ValueError("the splits of its shards and of its settings differ")
        shards = {}
        for split, entries in listed.items():
            if not isinstance(entries, list) or len(entries) != settings.num_shards(split):
                raise ValueError(f"{split} needs {settings.num_shards(split)} shards")
            shards[split] = [from_dict(StoredShard, entry) for entry in entries]
            for number, shard in enumerate(shards[split]):
                if shard.file != shard_name(split, number):
                    raise ValueError(f"shard {number} of {split} is {shard.file}")
    except (ValueError, TypeError) as error:
        raise StoreError(f"{folder / MANIFEST} is damaged ({error}): {RESTORE}.") from error
    return shards


def read_shard(path: Path) -> Arrays:
    """Map the arrays of a shard into memory.

    Raises:
        StoreError: if the file is missing or damaged.
    """
    try:
        with safe_open(check_regular(path), "pt") as file:  # maps it, which "np" does not
            arrays: Arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
        types = {name: array.dtype for name, array in arrays.items()}
        if types.pop(FEATURES, FEATURE_TYPE) != FEATURE_TYPE or types != SHARD_TYPES:
            raise ValueError(f"it needs the arrays {', '.join(SHARD_TYPES)}")
        shape = arrays["codes"].shape
        if len(shape) != 3 or not arrays["labels"].shape == arrays["indices"].shape == shape[:1]:
            raise ValueError("the numbers of codes, labels and indices differ")
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path} is missing or broken ({error}): {REPAIR}.") from error
    return arrays


def open_shard(folder: Path, settings: StoreSettings, split: str, number: int) -> Arrays:
    """Map the arrays of a shard into memory, and compare them with the settings of the store.

    Raises:
        StoreError: if the file is missing, damaged, or another shard.
    """
    path = folder / shard_name(split, number)
    arrays = read_shard(path)
    try:
        check_shard(arrays, settings, split, number)
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error}): {REPAIR}.") from error
    return arrays


def check_shard(arrays: Arrays, settings: StoreSettings, split: str, number: int) -> None:
    """Raise ``ValueError`` unless arrays can be the content of a shard of these settings."""
    codes, labels, indices = (arrays[name] for name in ("codes", "labels", "indices"))
    expected = (len(labels), settings.entries, settings.entry_bytes)
    if codes.shape != expected:
        raise ValueError(f"its codes have the shape {codes.shape} instead of {expected}")
    found = arrays[FEATURES].shape if FEATURES in arrays else None
    needed = (len(labels), *settings.feature_shape) if settings.feature_dim else None
    if found != needed:
        raise ValueError(f"its features have the shape {found} instead of {needed}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < settings.num_classes:
        raise ValueError(f"it has labels up to {labels.max()} for {settings.num_classes} classes")
    try:
        left_out = [index for index, _ in broken_in(arrays)]
        present = np.sort(np.concatenate([indices.astype(np.int64), np.array(left_out, np.int64)]))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError("its list of broken images can't be read") from error
    images = settings.images_of(split, number)
    is_complete = len(present) == images.stop - images.start
    if not is_complete or not np.array_equal(present, np.arange(images.start, images.stop)):
        raise ValueError(f"it does not contain the images {images.start} to {images.stop - 1}")


def broken_in(arrays: Arrays) -> list[tuple[int, BrokenImage]]:
    """Return the images that a shard leaves out, with their numbers in the source."""
    listed = json.loads(arrays["broken"].tobytes())
    return [(index, BrokenImage(name, reason)) for index, name, reason in listed]
