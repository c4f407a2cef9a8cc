"""Images in tar files, which are read in place with an index of their offsets."""

from __future__ import annotations

import contextlib
import logging
import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigr.data.files import check_regular, replacing
from bigr.data.sources.folder import labels_of
from bigr.data.sources.source import ImageSource, is_image

log = logging.getLogger(__name__)

ENDING = ".bigr-index.npz"
LABEL_ENDING = ".cls"
MAX_LABEL_BYTES = 1000


class TarIndex(NamedTuple):
    """Positions of the images in a tar file, sorted by name."""

    names: NDArray[np.bytes_]
    """(n,) ``<class>/<file>``, or ``<file>`` if there are no classes."""
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.bytes_]
    """(n,) content of the file ``.cls`` that belongs to an image; empty if there is none."""


class TarSource(ImageSource):
    """Images in an uncompressed tar file.

    Args:
        path: path of the tar file.
        index: positions of its images.
        labels: class of each image.
        classes: names of the classes.
    """

    def __init__(
        self, path: Path, index: TarIndex, labels: Sequence[int], classes: Sequence[str]
    ) -> None:
        super().__init__(np.asarray(labels, dtype=np.int64), classes)
        self.path = path
        self.index = index
        self._file: int | None = None

    def name(self, index: int) -> str:
        """Return the name of a member; for nested tar files it starts with the inner tar's name."""
        return os.fsdecode(bytes(self.index.names[index]))

    def read(self, index: int) -> bytes:
        """Return the bytes of a member; fewer than expected if the tar file is truncated."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
        return os.pread(self._file, int(self.index.sizes[index]), int(self.index.offsets[index]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # a file descriptor is valid in its process only

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            os.close(self._file)  # type: ignore[arg-type]


def read_class_tar(path: Path) -> TarSource:
    """Open a tar file of class folders, or ImageNet's tar file of one tar file per class.

    Raises:
        ValueError: if it is compressed, truncated, or has images outside of classes.
    """
    index = read_index(path)
    owners = [os.fsdecode(bytes(name)).split("/")[0] for name in index.names]
    if any(b"/" not in bytes(name) for name in index.names):
        raise ValueError(f"{path} has images outside class folders.")
    classes = sorted(set(owners))
    position = {name: label for label, name in enumerate(classes)}
    return TarSource(path, index, [position[owner] for owner in owners], classes)


def read_flat_tar(path: Path, labels: Mapping[str, int], classes: Sequence[str]) -> TarSource:
    """Open a tar file without class folders, with labels by file name without suffix."""
    index = read_index(path)
    names = [os.fsdecode(bytes(name)) for name in index.names]
    return TarSource(path, index, labels_of(names, labels, path), classes)


def read_index(path: Path) -> TarIndex:
    """Return the index of a tar file, which the first call saves next to it or in the user's cache.

    Raises:
        ValueError: if the tar file is compressed, truncated or has no images.
    """
    about = path.stat()
    signature = np.array([about.st_size, about.st_mtime_ns], dtype=np.int64)
    places = _index_places(path)
    for place in places:
        found = _load_index(place, signature)
        if found is not None:
            return found
    log.info("Creating an index of the images in %s (only once).", path)
    index = _make_index(path)
    for place in places:
        with contextlib.suppress(OSError):
            _save_index(place, signature, index)
            break
    return index


def _index_places(path: Path) -> list[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bigr"
    elsewhere = str(path.resolve()).strip(os.sep).replace(os.sep, "_")
    return [path.with_name(path.name + ENDING), cache / (elsewhere + ENDING)]


def _load_index(place: Path, signature: NDArray[np.int64]) -> TarIndex | None:
    """Read a saved index, or return None if it is missing, damaged, or of another tar file."""
    try:
        with np.load(check_regular(place), allow_pickle=False) as saved:
            if np.array_equal(saved["signature"], signature):
                return TarIndex(*(saved[field] for field in TarIndex._fields))
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile):
        pass
    return None


def _save_index(place: Path, signature: NDArray[np.int64], index: TarIndex) -> None:
    with replacing(place) as temporary, temporary.open("wb") as file:
        np.savez(file, signature=signature, **index._asdict())


def _make_index(path: Path) -> TarIndex:
    try:
        with tarfile.open(path, "r:") as tar:
            members = sorted(_members(tar, "", 0))
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{path} can't be read as an uncompressed tar file ({error}): if it is compressed, "
            "unpack it; if its download was cut off, download it again."
        ) from error
    texts = {sample_key(name): text for name, _, _, text in members if text is not None}
    found = [member[:3] for member in members if member[3] is None]
    if not found:
        raise ValueError(f"{path} contains no images.")
    names, offsets, sizes = zip(*found, strict=True)
    end = max(offset + size for _, offset, size in found)
    if end > path.stat().st_size:
        raise ValueError(f"{path} is cut off: download it again.")
    labels = [texts.get(sample_key(name), b"") for name in names] if texts else [b""] * len(names)
    return TarIndex(
        np.array(names, dtype=np.bytes_),
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
        np.array(labels, dtype=np.bytes_),
    )


def sample_key(name: bytes) -> bytes:
    """Return what the files of a sample have in common: their name up to the first full stop."""
    folder, slash, file = name.rpartition(b"/")
    return folder + slash + file.split(b".", 1)[0]


def _members(
    tar: tarfile.TarFile, prefix: str, start: int
) -> Iterator[tuple[bytes, int, int, bytes | None]]:
    """Yield the name, the offset and the size of images, and also the content of labels."""
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # otherwise all 1.3 million members stay in memory
        name = member.name.removeprefix("./")
        if not member.isfile() or Path(name).name.startswith("."):
            continue
        place = (os.fsencode(prefix + name), start + member.offset_data, member.size)
        if is_image(Path(name).name):
            yield *place, None
        elif name.endswith((".tar", LABEL_ENDING)):
            inner = tar.extractfile(member)
            if inner is not None and name.endswith(LABEL_ENDING):
                yield *place, inner.read(MAX_LABEL_BYTES).strip()
            elif inner is not None:
                with tarfile.open(fileobj=inner, mode="r:") as nested:
                    yield from _members(nested, f"{prefix}{Path(name).stem}/", place[1])
