"""Labels of ImageNet's validation set without class folders, from a ground-truth file."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bigr.data.sources.labels import number_labels

KAGGLE = "LOC_val_solution.csv"
DEVKIT_LIST = "ILSVRC2012_validation_ground_truth.txt"
DEVKIT_CLASSES = "meta.mat"
DEVKIT_TARS = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12.tar")
LIST = "val.txt"
VALIDATION_NAME = "ILSVRC2012_val_{:08d}"


class GroundTruth(NamedTuple):
    """Labels of images by file name."""

    labels: dict[str, int]
    """Classes by file name without suffix."""
    classes: list[str]
    """Sorted WordNet ids, or numbers if the file has only these."""


def read_ground_truth(folders: Sequence[Path], classes: Sequence[str] | None) -> GroundTruth:
    """Read the labels of the validation images.

    Supported are Kaggle's ``LOC_val_solution.csv``, a ``val.txt`` with lines ``<file> <WordNet id
    or number>``, and ImageNet's development kit (its ``.tar.gz``, or unpacked).

    Args:
        folders: folders that may contain the file, in order.
        classes: sorted WordNet ids of the training set, if it exists.

    Raises:
        ValueError: if there is no such file, or it has other classes.
    """
    readers: tuple[tuple[str, Callable[[Path], dict[str, str]]], ...] = (
        (KAGGLE, _read_kaggle),
        (LIST, _read_list),
        (DEVKIT_LIST, _read_unpacked_devkit),
        *((name, _read_devkit_tar) for name in DEVKIT_TARS),
    )
    for folder in folders:
        for name, reader in readers:
            if (folder / name).is_file():
                return _numbered(reader(folder / name), classes, folder / name)
    raise ValueError(
        f"{folders[0]} has validation images without class folders, and no file with their "
        f"classes: copy {KAGGLE}, {LIST} or {DEVKIT_TARS[0]} to {folders[-1]}."
    )


def _numbered(named: dict[str, str], classes: Sequence[str] | None, path: Path) -> GroundTruth:
    labels, known = number_labels(list(named.values()), classes, path)
    return GroundTruth(dict(zip(named, labels.tolist(), strict=True)), known)


def _read_kaggle(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (KeyError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{path} is not Kaggle's file: it needs the columns ImageId,PredictionString."
        ) from error


def _read_list(path: Path) -> dict[str, str]:
    named = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(f"{path}, line {number}: expected '<file> <class>', got {line!r}.")
        named[Path(words[0]).stem] = words[1]
    if not named:
        raise ValueError(f"{path} is empty.")
    return named


def _read_unpacked_devkit(path: Path) -> dict[str, str]:
    meta = path.with_name(DEVKIT_CLASSES)
    if not meta.is_file():
        raise ValueError(f"{path} needs {DEVKIT_CLASSES} of the same development kit beside it.")
    return _read_devkit(path.read_text(), meta.read_bytes())


def _read_devkit_tar(path: Path) -> dict[str, str]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                name = Path(member.name).name
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None and name in (DEVKIT_LIST, DEVKIT_CLASSES):
                    found[name] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if len(found) < 2:
        raise ValueError(f"{path} lacks {DEVKIT_LIST} or {DEVKIT_CLASSES}.")
    return _read_devkit(found[DEVKIT_LIST].decode(), found[DEVKIT_CLASSES])


def _read_devkit(ids: str, meta: bytes) -> dict[str, str]:
    """Translate the ILSVRC2012_ID in line i, that of image i + 1, to a WordNet id."""
    from scipy.io import loadmat  # a dependency of scikit-learn

    synsets: Any = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    wnids = {int(synset[0]): str(synset[1]) for synset in synsets}
    return {
        VALIDATION_NAME.format(number): wnids[int(word)]
        for number, word in enumerate(ids.split(), start=1)
    }
