"""Labels given as words: the numbers of the classes, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigr.data.files import check_regular

NAMES_FILE = "classes.txt"
"""File next to labels that are numbers, with the name of one class per line."""


def number_labels(
    words: Sequence[str], classes: Sequence[str] | None, where: Path
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the number of each label, and the names of all classes.

    Labels are names, which are numbered in alphabetical order. If all of them are numbers that
    are no names in ``classes``, they are the numbers of the classes, counted from 0. Their names
    are ``classes``, the lines of ``classes.txt`` next to ``where``, or the numbers themselves.

    Args:
        words: label of each image.
        classes: names of the classes of the training set, if they are known.
        where: the file that contains the labels, for messages.

    Raises:
        ValueError: if a label is not in ``classes``, or there are no labels.
    """
    if not words:
        raise ValueError(f"{where} is empty.")
    different = set(words)
    if all(word.isdigit() for word in different) and not different <= set(classes or ()):
        labels = np.array([int(word) for word in words], np.int64)
        known = list(classes or _listed_names(where) or map(str, range(int(labels.max()) + 1)))
        if labels.max() >= len(known):
            raise ValueError(
                f"{where} has class {labels.max()}, but "
                f"{'the training set' if classes else NAMES_FILE} only 0..{len(known) - 1}."
            )
        return labels, known
    known = list(classes or sorted(different))
    unknown = sorted(different - set(known))
    if unknown:
        raise ValueError(f"{where} has the class {unknown[0]}, which is not in the training set.")
    position = {name: label for label, name in enumerate(known)}
    return np.array([position[word] for word in words], np.int64), known


def _listed_names(where: Path) -> list[str]:
    path = where.with_name(NAMES_FILE)
    if not path.is_file():
        return []
    lines = check_regular(path).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]
