"""Features of many images in files of a few hundred each, so that long evaluations can be resumed.

Any number of processes fill a folder. Each file is written atomically, and the figures are computed
from the files in order, so they depend neither on the number of processes nor on interruptions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bigr.data.files import replacing, write_atomically
from bigr.inference.processes import Processes
from bigr.metrics.features import FeatureNetwork, Features

SETTINGS = "settings.json"
Arrays = dict[str, np.ndarray[Any, Any]]


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
        settings = {**settings, "count": count, "chunk_size": size}
        path = folder / SETTINGS
        if not path.is_file():
            write_atomically(path, json.dumps(settings, indent=2).encode())
        before, now = json.loads(path.read_text()), json.loads(json.dumps(settings))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise ValueError(
                    f"{folder} holds features of another evaluation ({name} was "
                    f"{before.get(name)}, is {now.get(name)}): choose another hydra.run.dir, or "
                    "delete that folder."
                )

    def path(self, start: int) -> Path:
        """Return the path of the file that begins with image ``start``."""
        return self.folder / f"images_{start:07d}.npz"

    def ranges(self) -> list[range]:
        """Return the images of every file."""
        return list(split([range(self.count)], self.size))

    def pending(self) -> list[range]:
        """Return the images of the files that do not exist yet."""
        return [images for images in self.ranges() if not self.path(images.start).is_file()]

    def fill(
        self,
        processes: Processes,
        batches_of: Callable[[Sequence[range]], Iterator[dict[str, Tensor]]],
        on_batch: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Write the missing files together with the other processes, and wait for them.

        Args:
            processes: that share the work.
            batches_of: yields arrays of the images of some files, batch by batch; a batch does not
                cross the border between two files.
            on_batch: called with the number of images that were finished, in all processes.

        Raises:
            ValueError: if a feature is not finite.
        """
        todo: list[range] = processes.broadcast(self.pending())
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
        is_finite = np.isfinite(next(iter(arrays.values()))).reshape(len(images), -1).all(axis=1)
        if not is_finite.all():
            raise ValueError(
                f"the features of image {images.start + int(is_finite.argmin())} are not finite: "
                "the images contain NaN, or the weights of the network are damaged."
            )
        with replacing(self.path(images.start)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes them for a flag

    def read(self, *names: str) -> Iterator[Arrays]:
        """Yield the arrays of every file in order, without those that a file does not have."""
        for images in self.ranges():
            with np.load(self.path(images.start), allow_pickle=False) as file:
                yield {name: file[name] for name in names if name in file.files}

    def features(self) -> Iterator[Features]:
        """Yield the features of every file in order."""
        for arrays in self.read("pool", "logits", "spatial"):
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            yield Features(tensors["pool"], tensors["logits"], tensors.get("spatial"))

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
