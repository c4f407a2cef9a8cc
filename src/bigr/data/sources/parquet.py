"""Images in parquet files, as on the Hugging Face hub."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigr.data.files import check_regular
from bigr.data.sources.columns import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    find_column,
    hub_classes,
    number_rows,
)
from bigr.data.sources.source import MIXED_BLOCKS, ImageSource

KEPT_GROUPS = MIXED_BLOCKS
"""Number of row groups (of 100 rows on the hub) that a process keeps in memory."""


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
        words: list[Any] = []
        starts: list[int] = []
        self._groups: list[tuple[Path, int]] = []
        row = 0
        for path in files:
            file = _open(path)
            self.image_column = find_column(file.schema_arrow, IMAGE_COLUMNS, path)
            label_column = find_column(file.schema_arrow, LABEL_COLUMNS, path)
            words += _labels(file, label_column, path)
            for group in range(file.num_row_groups):
                starts.append(row)
                self._groups.append((path, group))
                row += file.metadata.row_group(group).num_rows
            names = hub_classes(file.schema_arrow, label_column)
        self._starts = np.array(starts, dtype=np.int64)
        super().__init__(*number_rows(words, classes, names, files[0]))
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
        return parquet.ParquetFile(check_regular(path))
    except (OSError, ArrowInvalid) as error:
        raise ValueError(f"{path} can't be read as parquet: {error}") from error


def _labels(file: Any, column: str, path: Path) -> list[Any]:
    """Read the labels of all rows."""
    from pyarrow import ArrowException

    try:
        labels: list[Any] = file.read([column])[column].to_pylist()
    except (OSError, ValueError, ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is damaged ({reason}): download it again.") from error
    return labels
