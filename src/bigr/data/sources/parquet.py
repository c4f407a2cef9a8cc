"""Images in parquet files, as on the Hugging Face hub."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigr.data.sources.source import MIXED_BLOCKS, ImageSource

KEPT_GROUPS = MIXED_BLOCKS
"""Number of row groups (of 100 rows on the hub) that a process keeps in memory."""
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label")


class ParquetSource(ImageSource):
    """Rows of parquet files with a column of encoded images and a column of labels.

    Parquet files are read in groups of rows, which are the :attr:`blocks`. Reading is fast in
    their order, or mixed within a few groups.

    Args:
        files: parquet files, in order.
        classes: names of the classes; None uses those in the metadata of the files, or numbers.

    Raises:
        ValueError: if a column is missing, a file can't be read, or pyarrow is not installed.
    """

    def __init__(self, files: Sequence[Path], classes: Sequence[str] | None = None) -> None:
        labels: list[NDArray[np.int64]] = []
        starts: list[int] = []
        self._groups: list[tuple[Path, int]] = []
        row = 0
        for path in files:
            file = _open(path)
            self.image_column = _column(file, IMAGE_COLUMNS, path)
            label_column = _column(file, LABEL_COLUMNS, path)
            labels.append(file.read([label_column])[label_column].to_numpy().astype(np.int64))
            for group in range(file.num_row_groups):
                starts.append(row)
                self._groups.append((path, group))
                row += file.metadata.row_group(group).num_rows
            names = _hub_classes(file, label_column)
        self._starts = np.array(starts, dtype=np.int64)
        every = np.concatenate(labels)
        if classes is None:
            classes = names or [str(label) for label in range(int(every.max()) + 1)]
        if every.min() < 0 or every.max() >= len(classes):
            raise ValueError(
                f"{files[0].parent} has labels from {every.min()} to {every.max()}, but there are "
                f"{len(classes)} classes."
            )
        super().__init__(every, classes)
        self._kept: OrderedDict[int, Any] = OrderedDict()

    @property
    def blocks(self) -> NDArray[np.int64]:
        """First row of each group of rows."""
        return self._starts

    def name(self, index: int) -> str:
        """Return the name of the file and the row."""
        path, _ = self._groups[self._group_of(index)]
        first = next(g for g, (other, _) in enumerate(self._groups) if other == path)
        return f"{path.name}:{index - int(self._starts[first])}"

    def read(self, index: int) -> bytes:
        """Return the encoded image of a row; no bytes if the cell is empty."""
        group = self._group_of(index)
        if group not in self._kept:
            path, number = self._groups[group]
            file = _open(path)
            table = file.read_row_group(number, columns=[self.image_column])
            self._kept[group] = table[self.image_column].combine_chunks()
            if len(self._kept) > KEPT_GROUPS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        value = self._kept[group][index - int(self._starts[group])].as_py()
        if isinstance(value, dict):  # the hub stores the bytes and a path
            value = value.get("bytes")
        return value or b""

    def _group_of(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def _add_names(self, digest: Any) -> None:
        # The names of all rows follow from these.
        for (path, group), start in zip(self._groups, self._starts, strict=True):
            digest.update(f"{path.name}:{group}:{start}\n".encode())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict()}


def import_parquet() -> Any:
    """Import ``pyarrow.parquet``; ``ValueError`` if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            "parquet files need pyarrow: pip install 'bigr-lightning[parquet]'."
        ) from error
    return pyarrow.parquet


def _open(path: Path) -> Any:
    parquet = import_parquet()
    from pyarrow import ArrowInvalid

    try:
        return parquet.ParquetFile(path)
    except (OSError, ArrowInvalid) as error:
        raise ValueError(f"{path} can't be read as parquet: {error}") from error


def _column(file: Any, names: Sequence[str], path: Path) -> str:
    for name in names:
        if name in file.schema_arrow.names:
            return name
    raise ValueError(
        f"{path} has the columns {', '.join(file.schema_arrow.names)}, but none of "
        f"{', '.join(names)}: rename the column."
    )


def _hub_classes(file: Any, label_column: str) -> list[str] | None:
    """Return the class names in the metadata of the library ``datasets``, if there are any."""
    metadata = file.schema_arrow.metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label_column]["names"]]
    except (KeyError, ValueError, TypeError):
        return None
