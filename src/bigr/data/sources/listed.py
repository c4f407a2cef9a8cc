"""Images whose labels are listed in a CSV or JSON file."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigr.data.files import check_regular
from bigr.data.sources.folder import FolderSource
from bigr.data.sources.labels import number_labels

LISTS = ("labels.csv", "labels.json", "metadata.csv", "dataset.json")
"""Names of files with labels; the last two are those of Hugging Face and of StyleGAN."""
FILE_COLUMNS = ("file", "file_name", "filename", "image", "path")
LABEL_COLUMNS = ("label", "class", "class_name", "category")


def find_list(folder: Path) -> Path | None:
    """Return the file with labels in ``folder``, or None if there is none."""
    return next((folder / name for name in LISTS if (folder / name).is_file()), None)


def read_listed(path: Path, classes: Sequence[str] | None = None) -> FolderSource:
    """Open the images that a file lists, sorted by class and path.

    A CSV file has a header with the columns ``file`` and ``label``, in any order, and possibly
    others. A JSON file contains ``{"cat/1.jpg": "cat", …}``, a list of pairs, or a list of objects
    with these keys; it may be the value of the key ``labels`` of an object. Paths are relative
    to the folder of the file. See :func:`~bigr.data.sources.labels.number_labels` for labels.

    Args:
        path: the file.
        classes: names of the classes of the training set, if they are known.

    Raises:
        ValueError: if the file can't be read, lists an image twice, or an image is missing.
    """
    try:
        text = check_regular(path).read_text(encoding="utf-8-sig")
        rows = _csv_rows(text) if path.suffix == ".csv" else _json_rows(json.loads(text))
    except (ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise ValueError(
            f"{path} can't be read as a list of labels ({reason}): it needs the columns file and "
            "label."
        ) from error
    labels, known = number_labels([label for _, label in rows], classes, path)
    found = sorted(zip(labels.tolist(), (name for name, _ in rows), strict=True))
    names = [name for _, name in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path} lists {twice} more than once.")
    missing = next((name for name in names if not (path.parent / name).is_file()), None)
    if missing is not None:
        raise ValueError(
            f"{path} lists {missing}, but there is no such file in {path.parent}: paths are "
            "relative to that folder."
        )
    return FolderSource(path.parent, names, [label for label, _ in found], known)


def _csv_rows(text: str) -> list[tuple[str, str]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    header = reader.fieldnames or []
    file, label = _key(header, FILE_COLUMNS), _key(header, LABEL_COLUMNS)
    rows = []
    for row in reader:
        if not row[file] or not row[label]:
            raise ValueError(f"line {reader.line_num} is incomplete")
        rows.append((row[file].strip(), row[label].strip()))
    return rows


def _json_rows(content: Any) -> list[tuple[str, str]]:
    if isinstance(content, dict) and isinstance(content.get("labels"), list | dict):
        content = content["labels"]
    if isinstance(content, dict):
        pairs = list(content.items())
    elif content and all(isinstance(row, dict) for row in content):
        file, label = _key(content[0], FILE_COLUMNS), _key(content[0], LABEL_COLUMNS)
        pairs = [(row[file], row[label]) for row in content]
    else:
        pairs = [(file, label) for file, label in content]
    for file, label in pairs:
        if not isinstance(file, str) or type(label) not in (str, int):  # True is an int
            raise TypeError(f"the label of {file} is {label!r}")
    return [(file, str(label)) for file, label in pairs]


def _key(found: Any, names: Sequence[str]) -> str:
    for name in names:
        if name in found:
            return name
    raise ValueError(f"there is no column {names[0]}, only {', '.join(map(str, found)) or 'none'}")
