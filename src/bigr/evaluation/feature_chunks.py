"""Features of many images in files of a few hundred each, so that long evaluations can be resumed.

Any number of processes of one command fill a folder; the command locks it. Each file is written
atomically, with checksums and with the numbers of its images, and a damaged file is computed again.
The figures are computed from the files in order, so they depend neither on the number of processes
nor on interruptions.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bigr.data.array_files import Arrays, read_arrays, write_arrays
from bigr.data.files import write_atomically
from bigr.data.sealed_json import DamagedFileError, read_sealed, seal
from bigr.inference.processes import Processes
from bigr.metrics.features import FeatureNetwork, Features

SETTINGS = "settings.json"

log = logging.getLogger(__name__)


class FeatureChunks:
    """A folder of features.

    Args:
        folder: created if it does not exist.
        settings: what the features were computed from, as plain data.
        count: number of images.
        size: images per file.

    Raises:
        ValueError: if the folder holds features with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], count: int, size: int) -> None:
        self.folder = folder
        self.count = count
        self.size = size
        now = json.loads(json.dumps({**settings, "count": count, "chunk_size": size}))
        text = json.dumps(now, sort_keys=True)
        self.settings_sha256 = hashlib.sha256(text.encode()).hexdigest()
        path = folder / SETTINGS
        if not path.exists():
            write_atomically(path, seal(now))
        try:
            before = read_sealed(path)
        except DamagedFileError as error:
            # Every file also contains the settings, so features with other settings are never used.
            log.warning("%s; it is written again", error)
            write_atomically(path, seal(now))
            return
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise ValueError(
                    f"{folder} contains the features of another evaluation ({name} was "
                    f"{before.get(name)} and is now {now.get(name)}): choose another "
                    "hydra.run.dir, or delete that folder."
                )

    def path(self, start: int) -> Path:
        """Return the path of the file that begins with image ``start``."""
        return self.folder / f"images_{start:07d}.npz"

    def ranges(self) -> list[range]:
        """Return the images of every file."""
        return list(split([range(self.count)], self.size))

    def pending(self) -> list[range]:
        """Return the images of the files that do not exist yet, or are damaged."""
        todo = []
        for images in self.ranges():
            path = self.path(images.start)
            if path.exists():
                try:
                    self._read(images)
                    continue
                except DamagedFileError as error:
                    numbers = (images.start, images.stop - 1)
                    log.warning("%s; images %d to %d are computed again", error, *numbers)
            todo.append(images)
        return todo

    def fill(
        self,
        processes: Processes,
        batches_of: Callable[[Sequence[range]], Iterator[dict[str, Tensor]]],
        on_batch: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Write the missing and damaged files together with the other processes, and wait for them.

        Args:
            processes: the processes that share the work.
            batches_of: yields arrays of the images of some files, batch by batch; a batch does not
                cross the border between two files.
            on_batch: called with the number of images that were finished, in all processes.

        Raises:
            ValueError: if a feature is not finite.
        """
        todo: list[range] = processes.broadcast(self.pending() if processes.is_first else [])
        on_batch(self.count - sum(len(images) for images in todo))
        mine = todo[processes.rank :: processes.count]
        batches = batches_of(mine)
        for images in mine:
            parts: dict[str, list[np.ndarray[Any, Any]]] = {}
            done = 0
            while done < len(images):
                arrays = next(batches)
                for name, value in arrays.items():
                    parts.setdefault(name, []).append(value.cpu().numpy())
                number = len(next(iter(arrays.values())))
                done += number
                on_batch(number * processes.count)
            self._write(images, {name: np.concatenate(values) for name, values in parts.items()})
        processes.barrier()

    def _write(self, images: range, arrays: Arrays) -> None:
        for name, array in arrays.items():
            if len(array) != len(images):
                raise ValueError(f"{len(array)} {name} were computed for {len(images)} images.")
            if not np.issubdtype(array.dtype, np.floating):
                continue
            is_finite = np.isfinite(array).reshape(len(images), -1).all(axis=1)
            if not is_finite.all():
                raise ValueError(
                    f"the features ({name}) of image {images.start + int(is_finite.argmin())} are "
                    "not finite: the images contain NaN, or the weights of the network are damaged."
                )
        write_arrays(self.path(images.start), arrays, self._about(images))

    def _about(self, images: range) -> dict[str, Any]:
        """Return what the file of some images says about itself."""
        return {"settings": self.settings_sha256, "start": images.start, "stop": images.stop}

    def _read(self, images: range, *names: str) -> Arrays:
        """Return the arrays of a file: those with the given names, or all.

        Raises:
            DamagedFileError: if the file is missing or damaged, or contains other features.
        """
        path = self.path(images.start)
        arrays, about = read_arrays(path, names or None)
        if about != self._about(images):
            raise DamagedFileError(f"{path} contains other features")
        return arrays

    def read(self, *names: str) -> Iterator[Arrays]:
        """Yield the arrays of every file in order, without those that a file does not have.

        Raises:
            DamagedFileError: if a file was changed since it was written.
        """
        for images in self.ranges():
            try:
                arrays = self._read(images, *names)
            except DamagedFileError as error:
                raise DamagedFileError(f"{error}: run the same command again.") from error
            yield arrays

    def features(self) -> Iterator[Features]:
        """Yield the features of every file in order."""
        for arrays in self.read("pool", "logits", "spatial"):
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            yield Features(tensors["pool"], tensors.get("logits"), tensors.get("spatial"))

    def remove(self) -> None:
        """Delete the folder with all its files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def split(ranges: Sequence[range], size: int) -> Iterator[range]:
    """Yield the batches of at most ``size`` images of every range."""
    for images in ranges:
        for start in range(images.start, images.stop, size):
            yield range(start, min(start + size, images.stop))


def feature_arrays(network: FeatureNetwork, images: Tensor) -> dict[str, Tensor]:
    """Return the features of uint8 images (B, 3, H, W) by name, as they are written to files."""
    found = network(images)._asdict()
    return {name: value for name, value in found.items() if value is not None}
