"""Writing a store of packed codes, which can be interrupted and resumed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigr.data.broken import BrokenImage
from bigr.data.codes_store import (
    FORMAT,
    MANIFEST,
    VERSION,
    StoreError,
    StoreSettings,
    broken_in,
    read_manifest,
    read_shard,
    shard_name,
)
from bigr.data.files import sha256, write_atomically

BROKEN_REPORT = "broken_files.txt"
SPACE_MARGIN = 1.02
MAX_CLASSES = 2**16


class StoreWriter:
    """Creates a store, or resumes an incomplete one with the same settings.

    Args:
        folder: folder of the store.
        settings: settings that determine its content.

    Raises:
        StoreError: if the folder has other content, can't be written, or has too little space.
    """

    def __init__(self, folder: Path, settings: StoreSettings) -> None:
        self.folder = folder
        self.settings = settings
        if settings.num_classes > MAX_CLASSES:
            raise StoreError(
                f"a store has at most {MAX_CLASSES} classes, got {settings.num_classes}."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._check_same()
            self._check_space()
            if not (folder / MANIFEST).exists():
                write_atomically(folder / MANIFEST, _manifest(settings, None))
        except OSError as error:
            raise StoreError(
                f"{folder} can't be written ({error.strerror}): choose another output=…."
            ) from error

    def has(self, split: str, number: int) -> bool:
        """Return whether a shard exists, which means that it is complete."""
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
        """Write a shard atomically.

        Args:
            split: ``train`` or ``val``.
            number: number of the shard in its split.
            codes: (n, V, bytes).
            labels: (n,).
            indices: (n,) numbers of the images in their source.
            broken: images that were left out, with their numbers.

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
            write_atomically(self.folder / shard_name(split, number), data)
        except OSError as error:
            raise StoreError(
                f"{self.folder} can't be written ({error.strerror}): finished shards are kept; "
                "make room, and run the same command again to continue."
            ) from error

    def finish(self) -> dict[str, Any]:
        """Check that all shards exist, and write their checksums and the report of broken images.

        Returns:
            The manifest.

        Raises:
            StoreError: if a shard is missing or damaged.
        """
        shards: dict[str, list[dict[str, Any]]] = {}
        broken: list[BrokenImage] = []
        for split in self.settings.num_images:
            shards[split] = []
            for number in range(self.settings.num_shards(split)):
                path = self.folder / shard_name(split, number)
                if not path.is_file():
                    raise StoreError(f"{path} is missing: run the same command again.")
                arrays = read_shard(path)
                broken += [image for _, image in broken_in(arrays)]
                about = {"file": path.name, "images": len(arrays["labels"]), "sha256": sha256(path)}
                shards[split].append(about)
        for part in self.folder.glob(".*.part"):  # of processes that were killed
            part.unlink()
        if broken:
            lines = "".join(f"{image.name}: {image.reason}\n" for image in broken)
            write_atomically(self.folder / BROKEN_REPORT, lines.encode())
        manifest = _manifest(self.settings, shards)
        write_atomically(self.folder / MANIFEST, manifest)
        return dict(json.loads(manifest))

    def _check_same(self) -> None:
        if not (self.folder / MANIFEST).exists():
            strays = sorted(path.name for path in self.folder.glob("*.safetensors"))
            if strays:
                raise StoreError(
                    f"{self.folder} contains {strays[0]}, but no {MANIFEST}: choose another "
                    "output=…."
                )
            return
        before = read_manifest(self.folder)["settings"]
        now = json.loads(json.dumps(dataclasses.asdict(self.settings)))
        for name, value in now.items():
            if before.get(name) != value:
                old, new = (str(v)[:64] for v in (before.get(name), value))
                raise StoreError(
                    f"{self.folder} contains codes made with {name}={old}, but now it is {new}: "
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
                f"{free / 1e6:,.1f} MB are free: make room, choose another output=…, or use "
                "fewer views and draws."
            )


def _manifest(settings: StoreSettings, shards: dict[str, list[dict[str, Any]]] | None) -> bytes:
    """Encode the manifest; a store without ``shards`` is incomplete."""
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
