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
import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigr.data.broken import BrokenImage

MANIFEST = "manifest.json"
BROKEN_REPORT = "broken_files.txt"
FORMAT = "bigr-codes"
VERSION = 1
SPACE_MARGIN = 1.02
DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32}
MAX_CLASSES = 2**16

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


class StoreWriter:
    """Writes a store, or goes on with one.

    Args:
        folder: of the store.
        settings: what it holds.

    Raises:
        StoreError: if the folder holds something else, can't be written or has too little space.
    """

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self.folder = folder
        self.settings = settings
        if settings.num_classes > MAX_CLASSES:
            raise StoreError(f"a store takes {MAX_CLASSES} classes, got {settings.num_classes}.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._check_same()
            self._check_space()
            if not (folder / MANIFEST).exists():
                _write(folder / MANIFEST, _manifest(settings, None))
        except OSError as error:
            raise StoreError(
                f"{folder} can't be written ({error.strerror}): choose another output=…."
            ) from error

    def has(self, split: str, number: int) -> bool:
        """Whether a shard is there; then it is whole."""
        return (self.folder / shard_name(split, number)).exists()

    def write(
        self,
        split: str,
        number: int,
        codes: NDArray[np.uint8],
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
        broken: list[tuple[int, BrokenImage]],
    ) -> None:
        """Write a shard; it has its name only once it is safely on disk.

        Args:
            split: ``train`` or ``val``.
            number: of the shard.
            codes: (n, V, bytes).
            labels: (n,).
            indices: (n,) of the images in their source.
            broken: images left out, with their indices.

        Raises:
            StoreError: if the disk is full or fails.
        """
        from safetensors.numpy import save

        left_out = json.dumps([[index, *image] for index, image in broken]).encode()
        data = save(
            {
                "codes": np.ascontiguousarray(codes),
                "labels": labels.astype(np.uint16),
                "indices": indices.astype(np.uint32),
                "broken": np.frombuffer(left_out, dtype=np.uint8),
            }
        )
        try:
            _write(self.folder / shard_name(split, number), data)
        except OSError as error:
            raise StoreError(
                f"{self.folder} can't be written ({error.strerror}): what is done stays; make room "
                "and give the same command again to go on."
            ) from error

    def finish(self) -> dict[str, Any]:
        """Check that nothing is missing, write the checksums and the report; may be repeated.

        Returns:
            The manifest.

        Raises:
            StoreError: if a shard is missing or broken.
        """
        shards: dict[str, list[dict[str, Any]]] = {}
        broken: list[BrokenImage] = []
        for split in self.settings.num_images:
            shards[split] = []
            for number in range(self.settings.num_shards(split)):
                path = self.folder / shard_name(split, number)
                if not path.is_file():
                    raise StoreError(f"{path} is missing: give the same command again.")
                arrays = read_shard(path)
                broken += [image for _, image in broken_in(arrays)]
                about = {"file": path.name, "images": len(arrays["labels"]), "sha256": sha256(path)}
                shards[split].append(about)
        for part in self.folder.glob(".*.part"):
            part.unlink()
        if broken:
            lines = "".join(f"{image.name}: {image.reason}\n" for image in broken)
            _write(self.folder / BROKEN_REPORT, lines.encode())
        manifest = _manifest(self.settings, shards)
        _write(self.folder / MANIFEST, manifest)
        return dict(json.loads(manifest))

    def _check_same(self) -> None:
        path = self.folder / MANIFEST
        if not path.exists():
            strays = [name for name in _names(self.folder) if name.endswith(".safetensors")]
            if strays:
                raise StoreError(
                    f"{self.folder} holds {strays[0]}, but no {MANIFEST}: choose another output=…."
                )
            return
        before = read_manifest(self.folder)["settings"]
        now = json.loads(json.dumps(dataclasses.asdict(self.settings)))
        for name, value in now.items():
            if before.get(name) != value:
                old, new = (str(v)[:64] for v in (before.get(name), value))
                raise StoreError(
                    f"{self.folder} holds codes made with {name}={old}, and now it is {new}: "
                    "choose another output=…, or remove the folder."
                )

    def _check_space(self) -> None:
        settings = self.settings
        missing = sum(
            min(settings.shard_size, count - number * settings.shard_size)
            for split, count in settings.num_images.items()
            for number in range(settings.num_shards(split))
            if not self.has(split, number)
        )
        needed = int(missing * settings.entries * settings.entry_bytes * SPACE_MARGIN)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise StoreError(
                f"{self.folder}: {needed / 1e6:,.1f} MB of codes are to be written, and "
                f"{free / 1e6:,.1f} MB are free: make room, choose another output=…, or "
                "fewer views and draws."
            )


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


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def _manifest(settings: StoreSettings, shards: dict[str, list[dict[str, Any]]] | None) -> bytes:
    """Without ``shards``, the store isn't complete."""
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "settings": dataclasses.asdict(settings),
    }
    if shards is not None:
        written = {split: sum(s["images"] for s in listed) for split, listed in shards.items()}
        manifest["images"] = written
        manifest["left_out"] = {
            split: settings.num_images[split] - count for split, count in written.items()
        }
        manifest["shards"] = shards
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def _write(path: Path, data: bytes) -> None:
    """To a temporary name, to the disk, then into place."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
