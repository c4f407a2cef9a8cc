"""Writing a store of packed codes, which can be interrupted and resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigr.data.broken import BrokenImage
from bigr.data.codes_format import (
    FEATURE_TYPE,
    FEATURES,
    FORMAT,
    MANIFEST,
    SHARD_TYPES,
    VERSION,
    Arrays,
    StoredShard,
    StoreError,
    StoreSettings,
    broken_in,
    check_shard,
    open_shard,
    read_manifest,
    read_shards,
    shard_name,
)
from bigr.data.codes_store import compare_checksums
from bigr.data.files import SpecialFileError, check_regular, is_verifying, write_atomically
from bigr.data.locks import only_writer
from bigr.data.sealed_json import seal

BROKEN_REPORT = "broken_files.txt"
CHECKSUM_SUFFIX = ".sha256"
SPACE_MARGIN = 1.02
MAX_CLASSES = 2**16

log = logging.getLogger(__name__)


class StoreWriter:
    """Writes a store, or the missing part of an incomplete one with the same settings.

    One process calls :meth:`open` and, at the end, :meth:`finish`. In between, any number of
    processes :meth:`write` the missing shards.

    Args:
        folder: folder of the store.
        settings: settings that determine its content.

    Raises:
        StoreError: if there are too many classes for the format.
    """

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self.folder = folder
        self.settings = settings
        if settings.num_classes > MAX_CLASSES:
            raise StoreError(
                f"a store has at most {MAX_CLASSES} classes, got {settings.num_classes}."
            )

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Lock the folder, and create the store or verify what an earlier run has written.

        Shards are compared with the checksums of the time when they were written, unless the
        environment variable ``BIGR_VERIFY`` is 0.

        Raises:
            LockedError: if another command writes into the folder.
            StoreError: if the folder has other content, a shard is damaged, the folder can't be
                written, or there is too little space.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(only_writer(self.folder))
                if (self.folder / MANIFEST).exists():
                    self._continue(read_manifest(self.folder))
                else:
                    self._check_empty()
                self._check_space()
                if not (self.folder / MANIFEST).exists():
                    write_atomically(self.folder / MANIFEST, _manifest(self.settings, None))
            except OSError as error:
                raise StoreError(
                    f"{self.folder} can't be written ({error.strerror}): choose another output=…."
                ) from error
            yield

    @property
    def num_images(self) -> int:
        """Number of images in all splits."""
        return sum(self.settings.num_images.values())

    def has(self, split: str, number: int) -> bool:
        """Return whether a shard exists, with its checksum, which means that it is complete."""
        path = self.folder / shard_name(split, number)
        return path.exists() and _checksum_file(path).exists()

    def write(
        self,
        split: str,
        number: int,
        codes: NDArray[np.uint8],
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
        broken: list[tuple[int, BrokenImage]],
        features: NDArray[np.float16] | None = None,
    ) -> None:
        """Write a shard atomically, after its checksum.

        Args:
            split: ``train`` or ``val``.
            number: number of the shard in its split.
            codes: (n, V, bytes).
            labels: (n,).
            indices: (n,) numbers of the images in their source.
            broken: images that were left out, with their numbers.
            features: (n, views, N, C), if the settings have a ``feature_dim``.

        Raises:
            StoreError: if the arrays do not fit the settings, or the disk is full or fails.
        """
        from safetensors.numpy import save

        path = self.folder / shard_name(split, number)
        left_out = json.dumps([[index, *image] for index, image in broken]).encode()
        arrays: Arrays = {
            "codes": np.ascontiguousarray(codes),
            "labels": labels,
            "indices": indices,
            "broken": np.frombuffer(left_out, dtype=np.uint8),
        }
        if features is not None:
            arrays[FEATURES] = np.ascontiguousarray(features)
        try:
            check_shard(arrays, self.settings, split, number)
        except ValueError as error:
            raise StoreError(f"{path} can't be written: {error}.") from error
        all_types = {**SHARD_TYPES, FEATURES: FEATURE_TYPE}
        types = {name: array.astype(all_types[name]) for name, array in arrays.items()}
        data = save(types)
        with self._explaining():
            _write_checksum(path, hashlib.sha256(data).hexdigest())
            write_atomically(path, data)

    def finish(self) -> None:
        """Check that all shards exist, and write their checksums and the report of broken images.

        The checksums are those of the time when the shards were written.

        Raises:
            StoreError: if a shard is missing or damaged.
        """
        # 1. The shards.
        shards: dict[str, list[StoredShard]] = {split: [] for split in self.settings.num_images}
        broken: list[BrokenImage] = []
        for split, number in self._shards():
            path = self.folder / shard_name(split, number)
            if not self.has(split, number):
                raise StoreError(f"{path} is missing: run the same command again.")
            arrays = open_shard(self.folder, self.settings, split, number)
            broken += [image for _, image in broken_in(arrays)]
            images, checksum = len(arrays["labels"]), _read_checksum(path)
            shards[split].append(StoredShard(file=path.name, images=images, sha256=checksum))
        # 2. The report and the manifest, without what killed processes left.
        with self._explaining():
            for part in self.folder.glob(".*.part"):
                part.unlink()
            if broken:
                lines = "".join(f"{image.name}: {image.reason}\n" for image in broken)
                write_atomically(self.folder / BROKEN_REPORT, lines.encode())
            write_atomically(self.folder / MANIFEST, _manifest(self.settings, shards))
        # 3. What was written.
        for split, listed in shards.items():
            count = sum(shard.images for shard in listed)
            left_out = self.settings.num_images[split] - count
            omitted = f", {left_out:,} left out (see {BROKEN_REPORT})" if left_out else ""
            log.info("%s: %s images%s", split, f"{count:,}", omitted)
        kilobytes = sum(path.stat().st_size for path in self.folder.iterdir()) / 1e3
        size = f"{kilobytes:.3g} kB" if kilobytes < 1e3 else f"{kilobytes / 1e3:,.3g} MB"
        log.info("%s, with %d codes per image (views times draws)", size, self.settings.entries)

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """Turn errors of the disk into one sentence."""
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.folder} can't be written ({error.strerror}): finished shards are kept; "
                "make room, and run the same command again to continue."
            ) from error

    def _check_empty(self) -> None:
        strays = sorted(path.name for path in self.folder.glob("*.safetensors"))
        if strays:
            raise StoreError(
                f"{self.folder} contains {strays[0]}, but no {MANIFEST}: choose another output=…."
            )

    def _continue(self, manifest: dict[str, Any]) -> None:
        """Verify the shards of an earlier run with the same settings."""
        # 1. The settings.
        # Those that an older version did not know have their defaults.
        before = {f.name: f.default for f in dataclasses.fields(StoreSettings)}
        before |= manifest["settings"]
        now = json.loads(json.dumps(dataclasses.asdict(self.settings)))
        for name, value in now.items():
            if before.get(name) != value:
                old, new = (str(v)[:64] for v in (before.get(name), value))
                raise StoreError(
                    f"{self.folder} contains codes that were made with {name}={old}, but this "
                    f"command has {name}={new}: choose another output=…, or remove the folder."
                )
        # 2. Older versions wrote checksums into the manifest alone, and only at the end.
        if "shards" in manifest:
            listed = read_shards(self.folder, manifest, self.settings)
            for shard in itertools.chain(*listed.values()):
                path = self.folder / shard.file
                if not _checksum_file(path).exists():
                    _write_checksum(path, shard.sha256)
        # 3. The shards.
        names = [shard_name(*shard) for shard in self._shards() if self.has(*shard)]
        if is_verifying():
            expected = {name: _read_checksum(self.folder / name) for name in names}
            compare_checksums(self.folder, expected)
        unknown = {path.name for path in self.folder.glob("*.safetensors")} - set(names)
        if unknown:
            log.warning("%d shards have no checksum, and are created again", len(unknown))

    def _shards(self) -> Iterator[tuple[str, int]]:
        """Yield the split and the number of every shard of a complete store."""
        for split in self.settings.num_images:
            for number in range(self.settings.num_shards(split)):
                yield split, number

    def _check_space(self) -> None:
        settings = self.settings
        missing = sum(
            len(settings.images_of(*shard)) for shard in self._shards() if not self.has(*shard)
        )
        needed = int(missing * settings.image_bytes * SPACE_MARGIN)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise StoreError(
                f"{self.folder}: the codes need {needed / 1e6:,.1f} MB, but only "
                f"{free / 1e6:,.1f} MB are free: make room, choose another output=…, or use "
                "fewer views or draws."
            )


def _checksum_file(path: Path) -> Path:
    return path.with_name(path.name + CHECKSUM_SUFFIX)


def _write_checksum(path: Path, checksum: str) -> None:
    """Write the checksum of a shard in the format of the program ``sha256sum``."""
    write_atomically(_checksum_file(path), f"{checksum}  {path.name}\n".encode())


def _read_checksum(path: Path) -> str:
    """Return the checksum in the file of a shard; anything but a checksum will not match."""
    try:
        text = check_regular(_checksum_file(path)).read_bytes().decode(errors="replace")
    except SpecialFileError as error:
        raise StoreError(str(error)) from error
    return text.partition(" ")[0]


def _manifest(settings: StoreSettings, shards: dict[str, list[StoredShard]] | None) -> bytes:
    """Encode the manifest; a store without ``shards`` is incomplete."""
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "settings": dataclasses.asdict(settings),
    }
    if shards is not None:
        written = {split: sum(s.images for s in listed) for split, listed in shards.items()}
        manifest["images"] = written
        manifest["left_out"] = {
            split: settings.num_images[split] - count for split, count in written.items()
        }
        manifest["shards"] = {
            split: [dataclasses.asdict(shard) for shard in listed]
            for split, listed in shards.items()
        }
    return seal(manifest)
