"""Images as single files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bigr.data.sources.source import ImageSource, is_image


class FolderSource(ImageSource):
    """Files named relative to a folder. Names are bytes of one width: workers share the memory.

    Args:
        folder: that the names start from.
        names: relative paths.
        labels: one per name.
        classes: one name per class.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], labels: Sequence[int], classes: Sequence[str]
    ) -> None:
        super().__init__(np.asarray(labels, dtype=np.int64), classes)
        self.folder = folder
        self._names = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)

    def name(self, index: int) -> str:
        """Path relative to the folder."""
        return os.fsdecode(bytes(self._names[index]))

    def read(self, index: int) -> bytes:
        """The file; a missing one is an ``OSError``."""
        return (self.folder / self.name(index)).read_bytes()


def class_names(folder: Path) -> list[str]:
    """Folders in ``folder``, sorted: the classes."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def read_class_folders(folder: Path) -> FolderSource:
    """``folder/<class>/**/<image>``, sorted by class and path.

    Raises:
        ValueError: if a class has no images.
    """
    classes = class_names(folder)
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [f"{name}/{path}" for path in _images_below(folder / name)]
        if not found:
            raise ValueError(f"{folder / name} has no images: remove this folder or fill it.")
        names += found
        labels += [label] * len(found)
    return FolderSource(folder, names, labels, classes)


def read_flat(folder: Path, labels: Mapping[str, int], classes: Sequence[str]) -> FolderSource:
    """``folder/<image>`` with labels from a ground-truth file.

    Args:
        folder: with the images.
        labels: by file name without its ending.
        classes: one name per class.

    Raises:
        ValueError: if an image has no label.
    """
    names = _images_below(folder)
    return FolderSource(folder, names, labels_of(names, labels, folder), classes)


def labels_of(names: Sequence[str], labels: Mapping[str, int], where: Path) -> list[int]:
    """Labels of files by their stem; ``ValueError`` for one without."""
    found = [labels.get(Path(name).stem) for name in names]
    for name, label in zip(names, found, strict=True):
        if label is None:
            raise ValueError(f"{where}: the ground truth has no label for {name}.")
    return [label for label in found if label is not None]


def _images_below(folder: Path) -> list[str]:
    found: list[str] = []
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = prefix + entry.name
                if entry.is_dir():
                    pending.append(path + "/")
                elif is_image(entry.name):
                    found.append(path)
    return sorted(found)
