"""Columns of images and labels in tables of the library Arrow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigr.data.sources.labels import number_labels

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes")
LABEL_COLUMNS = ("label", "labels", "cls", "class", "fine_label")


def find_column(schema: Any, names: Sequence[str], path: Path) -> str:
    """Return the first of ``names`` that is a column; ``ValueError`` if there is none."""
    for name in names:
        if name in schema.names:
            return name
    raise ValueError(
        f"{path} has the columns {', '.join(schema.names)}, but none of {', '.join(names)}: "
        "rename the column."
    )


def hub_classes(schema: Any, label_column: str) -> list[str] | None:
    """Return the class names in the metadata of the library ``datasets``, if there are any."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label_column]["names"]]
    except (KeyError, ValueError, TypeError):
        return None


def number_rows(
    words: Sequence[Any], classes: Sequence[str] | None, names: list[str] | None, path: Path
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the number of the label of each row, and the names of all classes.

    Args:
        words: labels of all rows, integers or strings.
        classes: names of the classes of the training set, if they are known.
        names: names in the metadata of the table, if there are any.
        path: the file, for messages.

    Raises:
        ValueError: if a row has no label, or one that is not in ``classes``.
    """
    if not all(isinstance(word, str) or (type(word) is int and word >= 0) for word in words):
        strange = next(w for w in words if not isinstance(w, str) and (type(w) is not int or w < 0))
        raise ValueError(f"{path} has the label {strange}: labels are names, or numbers from 0.")
    if names is not None and words and isinstance(words[0], int):
        if max(words) >= len(names):
            raise ValueError(f"{path} has class {max(words)}, but only {len(names)} names.")
        if classes is None or list(classes) == names:
            return np.array(words, np.int64), names
        words = [names[word] for word in words]
    return number_labels([str(word) for word in words], classes, path)
