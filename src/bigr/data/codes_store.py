"""Reading of packed codes, whose files :mod:`bigr.data.codes_format` describes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bigr.data.codes_format import (
    FEATURE_TYPE,
    FEATURES,
    MANIFEST,
    REPAIR,
    Arrays,
    StoreError,
    StoreSettings,
    open_shard,
    read_manifest,
    read_shards,
)
from bigr.data.files import SpecialFileError, check_regular, is_verifying, sha256
from bigr.schema import from_dict

log = logging.getLogger(__name__)

NUM_THREADS = 8
"""Number of files that are verified at the same time."""
PATIENCE = 1.0
"""Seconds after which a verification shows its progress."""


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
                f"{folder} is incomplete: run the python -m bigr.tokenize command that created it "
                "again."
            )
        try:
            self.settings: StoreSettings = from_dict(StoreSettings, manifest["settings"])
        except (ValueError, TypeError) as error:
            raise StoreError(f"{folder / MANIFEST} can't be read: {error}") from error
        self.shards = read_shards(folder, manifest, self.settings)

    def split(self, name: str) -> PackedCodes:
        """Open the codes of a split, after a comparison of all its files with their checksums.

        The environment variable ``BIGR_VERIFY=0`` skips the comparison.

        Raises:
            StoreError: if there is no such split, or a shard is damaged.
        """
        if name not in self.shards:
            raise StoreError(f"{self.folder} has no split {name}, only {', '.join(self.shards)}.")
        if is_verifying():
            self.verify(name)
        shards = []
        for number, about in enumerate(self.shards[name]):
            arrays = open_shard(self.folder, self.settings, name, number)
            if len(arrays["labels"]) != about.images:
                raise StoreError(
                    f"{self.folder / about.file} has {len(arrays['labels'])} images, but "
                    f"{MANIFEST} says {about.images}: the file was changed; create the store "
                    "again."
                )
            shards.append(arrays)
        return PackedCodes(shards, self.settings.entries, self.settings.num_draws)

    def verify(self, *splits: str) -> None:
        """Compare shards with their checksums, which reads them completely.

        Args:
            *splits: names of splits; none stands for all.

        Raises:
            StoreError: naming the first damaged shard.
        """
        listed = [about for split in splits or self.shards for about in self.shards[split]]
        compare_checksums(self.folder, {about.file: about.sha256 for about in listed})


class PackedCodes:
    """The packed codes of one split; index i * V + v is entry v of image i.

    Args:
        shards: arrays of the shards, in order.
        num_entries: number of entries per image V.
        num_draws: number of draws of each view, which share its features.
    """

    def __init__(self, shards: list[Arrays], num_entries: int, num_draws: int = 1) -> None:
        shards = [shard for shard in shards if len(shard["labels"])]
        self.num_entries = num_entries
        self.num_draws = num_draws
        self._features = [shard[FEATURES] for shard in shards if FEATURES in shard]
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

    def take_features(self, indices: NDArray[np.int64]) -> NDArray[np.float16]:
        """Copy the features of the entries with the given indices (B,): (B, N, C) float16.

        Raises:
            StoreError: if the store has no features.
        """
        if not self._features:
            raise StoreError(
                "these codes have no features: use python -m bigr.tokenize features=…."
            )
        taken = np.empty((len(indices), *self._features[0].shape[2:]), FEATURE_TYPE)
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        for shard in np.unique(shards):
            chosen = np.flatnonzero(shards == shard)
            images, entries = np.divmod(indices[chosen] - self._starts[shard], self.num_entries)
            taken[chosen] = self._features[shard][images, entries // self.num_draws]
        return taken

    def iterate(self, entry: int) -> Iterator[NDArray[np.uint8]]:
        """Yield one entry of every image, shard by shard: (n, bytes) uint8."""
        for codes in self._codes:
            yield codes[entry :: self.num_entries]


def compare_checksums(folder: Path, expected: dict[str, str]) -> None:
    """Compare files with their checksums, several at a time; a bar shows a long comparison.

    Args:
        folder: folder of the files.
        expected: SHA-256 checksums in hexadecimal by file name.

    Raises:
        StoreError: naming the first file that is missing or damaged.
    """

    def check(name: str) -> int:
        path = folder / name
        try:
            found, size = sha256(check_regular(path)), path.stat().st_size
        except OSError as error:
            raise StoreError(f"{path} can't be read ({error.strerror}): {REPAIR}.") from error
        except SpecialFileError as error:
            raise StoreError(str(error)) from error
        if found != expected[name]:
            raise StoreError(f"{path} is damaged (its checksum differs): {REPAIR}.")
        return size

    began = time.monotonic()
    total = 0
    # The processes of a node share a terminal.
    is_quiet = True if os.environ.get("LOCAL_RANK", "0") != "0" else None
    pool = ThreadPoolExecutor(NUM_THREADS)  # hashing and reading release Python's lock
    try:
        with tqdm(
            desc="verifying codes", total=len(expected), unit=" files", delay=PATIENCE,
            disable=is_quiet, dynamic_ncols=True,
        ) as bar:  # fmt: skip
            for size in pool.map(check, expected):
                total += size
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
    took = time.monotonic() - began
    if took > PATIENCE:
        log.info("verified %.1f GB of codes in %.1f s", total / 1e9, took)
