"""Images that are stored as single files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bigr.data.files import check_regular
from bigr.data.sources.source import ImageSource, is_image


class FolderSource(ImageSource):
    """Image files below a folder.

    Args:
        folder: folder that contains the files.
        names: paths relative to ``folder``. They are stored in one array, whose memory the workers
            of a data loader share.
        labels: class of each file.
        classes: names of the classes.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], labels: Sequence[int], classes: Sequence[str]
    ) -> None:
        super().__init__(np.asarray(labels, dtype=np.int64), classes)
        self.folder = folder
        self._names = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)

    def name(self, index: int) -> str:
        """Return the path of an image relative to the folder."""
        return os.fsdecode(bytes(self._names[index]))

    def read(self, index: int) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: if it is missing.
            SpecialFileError: if it is a named pipe or a device, which might never end.
        """
        return check_regular(self.folder / self.name(index)).read_bytes()


def class_names(folder: Path) -> list[str]:
    """Return the sorted names of the folders in ``folder``, which are the classes."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def read_class_folders(folder: Path) -> FolderSource:
    """Find the images ``folder/<class>/**/<image>``, sorted by class and path.

    Raises:
        ValueError: if a class has no images.
    """
    classes = class_names(folder)
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [f"{name}/{path}" for path in _images_below(folder / name)]
        if not found:
            raise ValueError(f"{folder / name} has no images: remove this folder or add images.")
        names += found
        labels += [label] * len(found)
    return FolderSource(folder, names, labels, classes)


def read_flat(folder: Path, labels: Mapping[str, int], classes: Sequence[str]) -> FolderSource:
    """Find the images ``folder/<image>`` of a validation set without class folders.

    Args:
        folder: folder with the images.
        labels: classes by file name without suffix.
        classes: names of the classes.

    Raises:
        ValueError: if an image has no label.
    """
    names = _images_below(folder)
    return FolderSource(folder, names, labels_of(names, labels, folder), classes)


def labels_of(names: Sequence[str], labels: Mapping[str, int], where: Path) -> list[int]:
    """Look up the labels of files by name without suffix; ``ValueError`` if one is missing."""
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
