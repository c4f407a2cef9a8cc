"""Recognition of the layout of a dataset from the content of its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bigr.data.sources.folder import class_names, read_class_folders, read_flat
from bigr.data.sources.ground_truth import read_ground_truth
from bigr.data.sources.parquet import ParquetSource
from bigr.data.sources.source import ImageSource, is_image
from bigr.data.sources.tar import read_class_tar, read_flat_tar, read_index

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "validation", "valid")}
BASES = (".", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "data")
"""Folders below the root that contain the splits, for example in the archive of Kaggle."""
TARS = ("ILSVRC2012_img_{}.tar", "{}.tar")


def find_source(root: Path, split: str, classes: Sequence[str] | None = None) -> ImageSource:
    """Find the images of one split.

    Supported are, in this order: ``<split>/<class>/*``; a ``val/`` without class folders and a
    ground-truth file; ``ILSVRC2012_img_<split>.tar`` or ``<split>.tar``; ``<split>-*.parquet`` in
    the root, in ``data/`` or in ``<split>/``.

    Args:
        root: folder of all splits.
        split: ``train`` or ``val``.
        classes: classes of the training set, which this split must have, too.

    Raises:
        ValueError: if there are no images, they can't be read, or their classes differ.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise ValueError(f"data.root={root}: there is no such folder.")
    source = _find(root, split, classes)
    if source is None:
        raise ValueError(
            f"data.root={root} has no images to {'train with' if split == 'train' else 'validate'}:"
            f" it needs {split}/<class>/*, ILSVRC2012_img_{split}.tar or {split}-*.parquet."
        )
    if len(source) == 0:
        raise ValueError(f"data.root={root} has an empty {split} set.")
    if classes is not None and source.classes != list(classes):
        raise ValueError(_other_classes(root, split, source.classes, classes))
    return source


def count_classes(root: Path) -> int | None:
    """Return the number of class folders of the training set, or None if there are none."""
    for base in BASES:
        for name in SPLIT_NAMES["train"]:
            folder = root.expanduser() / base / name
            if folder.is_dir():
                return len(class_names(folder)) or None
    return None


def _find(root: Path, split: str, classes: Sequence[str] | None) -> ImageSource | None:
    kit = "ILSVRC2012_devkit_t12"
    truth_folders = [root, root / kit / "data", root / "data", *(root / base for base in BASES)]
    for base in (root / base for base in BASES):
        for name in SPLIT_NAMES[split]:
            source = _in_folder(base / name, split, truth_folders, classes)
            source = source or _in_tar(base, name, truth_folders, classes)
            shards = _shards(base, name)
            source = source or (ParquetSource(shards, classes) if shards else None)
            if source is not None:
                return source
    return None


def _in_folder(
    folder: Path, split: str, truth_folders: Sequence[Path], classes: Sequence[str] | None
) -> ImageSource | None:
    if not folder.is_dir():
        return None
    if class_names(folder):
        return read_class_folders(folder)
    names = [path.name for path in folder.iterdir()]
    if any(is_image(name) for name in names):
        if split == "train":
            raise ValueError(f"{folder} has images outside class folders: move them there.")
        truth = read_ground_truth([folder, folder.parent, *truth_folders], classes)
        return read_flat(folder, truth.labels, truth.classes)
    shards = sorted(folder / name for name in names if name.endswith(".parquet"))
    return ParquetSource(shards, classes) if shards else None


def _in_tar(
    base: Path, name: str, truth_folders: Sequence[Path], classes: Sequence[str] | None
) -> ImageSource | None:
    for pattern in TARS:
        path = base / pattern.format(name)
        if not path.is_file():
            continue
        if b"/" in bytes(read_index(path).names[0]):
            return read_class_tar(path)
        truth = read_ground_truth([base, *truth_folders], classes)
        return read_flat_tar(path, truth.labels, truth.classes)
    return None


def _shards(base: Path, name: str) -> list[Path]:
    return sorted(base.glob(f"{name}-*.parquet")) or sorted(base.glob(f"{name}.parquet"))


def _other_classes(root: Path, split: str, found: Sequence[str], expected: Sequence[str]) -> str:
    extra = sorted(set(found) - set(expected)) or sorted(set(expected) - set(found))
    which = "has" if set(found) - set(expected) else "lacks"
    detail = f" ({split} {which} {extra[0]})" if extra else ""
    return (
        f"data.root={root}: {split} has {len(found)} classes and train {len(expected)}, and they "
        f"must be the same{detail}."
    )
