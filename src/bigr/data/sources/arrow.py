"""Datasets that the library ``datasets`` of Hugging Face saved on disk, as Arrow files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bigr.data.files import check_regular
from bigr.data.sources.columns import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    find_column,
    hub_classes,
    number_rows,
)
from bigr.data.sources.source import ImageSource

STATE = "state.json"
"""File that ``Dataset.save_to_disk`` writes next to the Arrow files."""


class ArrowSource(ImageSource):
    """Rows of the Arrow files of ``Dataset.save_to_disk``, mapped into memory.

    Args:
        folder: folder with ``state.json`` and the Arrow files.
        classes: names of the classes of the training set; None uses those of the dataset.

    Raises:
        ValueError: if a column is missing, a file can't be read, or pyarrow is not installed.
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None = None) -> None:
        self.files = _data_files(folder)
        tables = [_open(path) for path in self.files]
        schema = tables[0].schema
        self.image_column = find_column(schema, IMAGE_COLUMNS, self.files[0])
        label_column = find_column(schema, LABEL_COLUMNS, self.files[0])
        words = [word for table in tables for word in table[label_column].to_pylist()]
        names = hub_classes(schema, label_column)
        super().__init__(*number_rows(words, classes, names, self.files[0]))
        self._starts = np.cumsum([0, *(table.num_rows for table in tables)])
        self._tables: list[Any] | None = None

    def name(self, index: int) -> str:
        """Return the name of the file and the row."""
        file, row = self._place(index)
        return f"{self.files[file].name}:{row}"

    def read(self, index: int) -> bytes:
        """Return the encoded image of a row; no bytes if the cell is empty."""
        if self._tables is None:
            self._tables = [_open(path) for path in self.files]
        file, row = self._place(index)
        value = self._tables[file][self.image_column][row].as_py()
        if isinstance(value, dict):  # the bytes, and a path
            value = value.get("bytes")
        return value or b""

    def _place(self, index: int) -> tuple[int, int]:
        file = int(np.searchsorted(self._starts, index, side="right")) - 1
        return file, index - int(self._starts[file])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": None}  # each process maps the files itself


def _data_files(folder: Path) -> list[Path]:
    """Return the Arrow files of a dataset in the order of its state."""
    path = folder / STATE
    try:
        listed = json.loads(check_regular(path).read_text(encoding="utf-8"))["_data_files"]
        names = [Path(entry["filename"]).name for entry in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: save the dataset again.") from error
    if not names:
        raise ValueError(f"{folder} contains an empty dataset.")
    return [folder / name for name in names]


def _open(path: Path) -> Any:
    """Map an Arrow file into memory."""
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError(
            "Arrow files need pyarrow: pip install 'bigr-lightning[parquet]'."
        ) from error
    try:
        with pyarrow.memory_map(str(check_regular(path))) as file:
            return pyarrow.ipc.open_stream(file).read_all()
    except (OSError, pyarrow.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} can't be read as an Arrow file: {reason}") from error
