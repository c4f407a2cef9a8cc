"""Shards of the format WebDataset: tar files with pairs such as ``0001.jpg`` and ``0001.cls``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bigr.data.sources.labels import number_labels
from bigr.data.sources.source import ImageSource
from bigr.data.sources.tar import LABEL_ENDING, TarIndex, TarSource, read_index, sample_key


class ShardSource(ImageSource):
    """Images in several tar files, which are read in place.

    The class of an image is the text in the file ``.cls`` next to it, a name or a number. Images
    whose ending has several parts, such as ``0001.mask.png``, do not belong to the samples.

    Args:
        paths: tar files, in order.
        classes: names of the classes of the training set, if they are known.

    Raises:
        ValueError: if a file can't be read, or an image has no label.
    """

    def __init__(self, paths: Sequence[Path], classes: Sequence[str] | None = None) -> None:
        indices = [_samples(read_index(path), path) for path in paths]
        words = [label.decode(errors="replace") for index in indices for label in index.labels]
        labels, known = number_labels(words, classes, paths[0])
        super().__init__(labels, known)
        self._starts = np.cumsum([0, *(len(index.names) for index in indices)])
        self._tars = [
            TarSource(path, index, labels[start : start + len(index.names)].tolist(), known)
            for path, index, start in zip(paths, indices, self._starts, strict=False)
        ]

    def name(self, index: int) -> str:
        """Return the name of the tar file and of the image in it."""
        tar, place = self._place(index)
        return f"{tar.path.name}/{tar.name(place)}"

    def read(self, index: int) -> bytes:
        """Return the bytes of an image; fewer than expected if its tar file is truncated."""
        tar, place = self._place(index)
        return tar.read(place)

    def _place(self, index: int) -> tuple[TarSource, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._tars[number], index - int(self._starts[number])


def has_labels(path: Path) -> bool:
    """Return whether a tar file contains labels in files ``.cls``."""
    return bool((read_index(path).labels != b"").any())


def _samples(index: TarIndex, path: Path) -> TarIndex:
    """Leave out images that belong to no sample; ``ValueError`` if one has no label."""
    names = [bytes(name) for name in index.names]
    simple = np.array([name[len(sample_key(name)) :].count(b".") == 1 for name in names])
    lacking = np.flatnonzero(simple & (index.labels == b""))
    if len(lacking):
        name = os.fsdecode(names[lacking[0]])
        raise ValueError(
            f"{path} has no label for {name}: it needs {Path(name).stem}{LABEL_ENDING} beside it."
        )
    return TarIndex(*(field[simple] for field in index))
