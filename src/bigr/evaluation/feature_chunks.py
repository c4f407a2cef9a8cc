"""Features of many images in files of a few hundred: what makes long evaluations restartable.

Any number of processes fills a folder, each file is written once and whole, and the figures are
computed from the files in their order, so that they depend neither on the number of processes nor
on interruptions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bigr.metrics.feature_networks import FeatureNetwork, Features

SETTINGS = "settings.json"


class FeatureChunks:
    """A folder of features.

    Args:
        folder: made if it isn't there.
        settings: what the features are of; those of an earlier run have to be the same.
        count: images.
        size: images per file.

    Raises:
        ValueError: if the folder holds features of something else.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], count: int, size: int) -> None:
        self.folder = folder
        self.count = count
        self.size = size
        settings = {**settings, "count": count, "chunk_size": size}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / SETTINGS
        if path.is_file():
            _compare(folder, json.loads(path.read_text()), settings)
        else:
            part = folder / f".{SETTINGS}.{os.getpid()}"
            part.write_text(json.dumps(settings, indent=2))
            part.replace(path)

    def path(self, start: int) -> Path:
        """Of the file that begins with image ``start``."""
        return self.folder / f"images_{start:07d}.npz"

    def ranges(self) -> list[range]:
        """Images of every file."""
        starts = range(0, self.count, self.size)
        return [range(start, min(start + self.size, self.count)) for start in starts]

    def pending(self) -> list[range]:
        """Those that aren't there yet."""
        return [images for images in self.ranges() if not self.path(images.start).is_file()]

    def write(self, images: range, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Write one file, under another name first."""
        path = self.path(images.start)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # their stub takes the flag for all
        part.replace(path)

    def read(self, *names: str) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        """Arrays of every file in order; a name that a file lacks is left out."""
        for images in self.ranges():
            with np.load(self.path(images.start), allow_pickle=False) as file:
                yield {name: file[name] for name in names if name in file.files}

    def features(self) -> Iterator[Features]:
        """Features of every file in order."""
        for arrays in self.read("pool", "logits", "spatial"):
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            yield Features(tensors["pool"], tensors["logits"], tensors.get("spatial"))

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _compare(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    now = json.loads(json.dumps(now))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{folder} holds features of another evaluation ({name} was {before.get(name)}, "
                f"is {now.get(name)}): choose another hydra.run.dir, or delete that folder."
            )


def fill(
    chunks: FeatureChunks,
    todo: Iterable[range],
    images_of: Callable[[range], Iterator[Tensor]],
    network: FeatureNetwork,
    *,
    keep_images: Callable[[range], bool] = lambda _: False,
    on_images: Callable[[int], object] = lambda _: None,
) -> None:
    """Compute features and write them.

    Args:
        chunks: where to.
        todo: which ranges.
        images_of: uint8 images (B, 3, H, W) of a range, batch by batch.
        network: whose features.
        keep_images: of which ranges to write the images, too.
        on_images: called with the number of images that were finished.
    """
    for images in todo:
        parts: dict[str, list[np.ndarray[Any, Any]]] = {}
        for batch in images_of(images):
            features = network(batch)
            for name, value in features._asdict().items():
                if value is not None:
                    parts.setdefault(name, []).append(value.cpu().numpy())
            if keep_images(images):
                parts.setdefault("images", []).append(batch.cpu().numpy())
            on_images(len(batch))
        arrays = {name: np.concatenate(values) for name, values in parts.items()}
        bad = ~np.isfinite(arrays["pool"]).all(axis=1)
        if bad.any():
            first = images.start + int(bad.argmax())
            raise ValueError(
                f"the features of image {first} aren't finite: the images hold NaN, or the "
                "network's weights are broken."
            )
        chunks.write(images, arrays)
