"""Recognition of the layout of a dataset from the content of its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from bigr.data.sources.arrays import find_arrays
from bigr.data.sources.arrow import STATE, ArrowSource
from bigr.data.sources.folder import class_names, read_class_folders, read_flat
from bigr.data.sources.ground_truth import read_ground_truth
from bigr.data.sources.held_out import VAL_SHARE, hold_out
from bigr.data.sources.listed import find_list, read_listed
from bigr.data.sources.parquet import ParquetSource
from bigr.data.sources.shards import ShardSource, has_labels
from bigr.data.sources.source import ImageSource, is_image
from bigr.data.sources.tar import read_class_tar, read_flat_tar, read_index

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "validation", "valid", "test")}
BASES = (".", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "data")
"""Folders below the root that contain the splits, for example in the archive of Kaggle."""
TARS = ("ILSVRC2012_img_{}.tar", "{}.tar")
SHARDS = ("{}-*.tar", "*-{}-*.tar")
ONLY_CLASS = "images"
"""Name of the class of images without classes."""


def find_splits(root: Path, val_share: float = VAL_SHARE) -> tuple[ImageSource, ImageSource]:
    """Find the images for training and for validation.

    If there are no validation images, ``val_share`` of the images of each class are held out; see
    :func:`~bigr.data.sources.held_out.hold_out`.

    Args:
        root: folder of all splits, or of images that are not divided into splits.
        val_share: share that is held out if necessary, between 0 and 1.

    Raises:
        ValueError: if there are no images, they can't be read, or the classes of the splits differ.
    """
    root = _checked(root)
    train = _find_train(root)
    val = _find(root, "val", train.classes)
    if val is None:
        return hold_out(train, val_share)
    return train, _with_classes(root, "val", val, train.classes)


def find_source(root: Path, split: str, classes: Sequence[str] | None = None) -> ImageSource:
    """Find the images of one split, of those that are divided into splits.

    Supported are, in this order: the files of CIFAR and MNIST; ``<split>/`` with anything that
    :func:`read_folder` supports; a ``val/`` without class folders and a ground-truth file;
    ``ILSVRC2012_img_<split>.tar`` or ``<split>.tar``; shards ``<split>-*.tar``; and
    ``<split>-*.parquet`` in the root, in ``data/`` or in ``<split>/``.

    Args:
        root: folder of all splits.
        split: ``train`` or ``val``.
        classes: classes of the training set, which must be those of this split as well.

    Raises:
        ValueError: if there are no images, they can't be read, or their classes differ.
    """
    root = _checked(root)
    source = _find(root, split, classes)
    if source is None:
        raise ValueError(
            f"data.root={root} has no images to {'train with' if split == 'train' else 'validate'}:"
            f" it needs {split}/<class>/*, ILSVRC2012_img_{split}.tar or {split}-*.parquet."
        )
    return _with_classes(root, split, source, classes)


def find_any(root: Path, split: str) -> ImageSource:
    """Find the images of one split, or all images of a folder that is not divided into splits.

    Args:
        root: folder of all splits, or of images.
        split: ``train`` or ``val``.

    Raises:
        ValueError: if there are no images, or they can't be read.
    """
    root = _checked(root)
    source = _find(root, split, None) or _undivided(root)
    return find_source(root, split) if source is None else _with_classes(root, split, source, None)


def read_folder(folder: Path, classes: Sequence[str] | None = None) -> ImageSource | None:
    """Open the images of a folder that is not divided into splits, or return None.

    Supported are, in this order: images listed in ``labels.csv`` or ``labels.json``, an Arrow
    dataset of the library ``datasets``, parquet files, shards of tar files, class folders, and
    images without classes.

    Args:
        folder: the folder.
        classes: names of the classes of the training set, if they are known.

    Raises:
        ValueError: if the images can't be read.
    """
    listed = find_list(folder)
    if listed is not None:
        return read_listed(listed, classes)
    if (folder / STATE).is_file():
        return ArrowSource(folder, classes)
    for pattern, source in (("*.parquet", ParquetSource), ("*.tar", ShardSource)):
        files = sorted(folder.glob(pattern))
        if files:
            return source(files, classes)
    owners = class_names(folder)
    loose = sorted(entry.name for entry in folder.iterdir() if is_image(entry.name))
    if owners and loose:
        raise ValueError(
            f"{folder} has images outside class folders, such as {loose[0]}: move them into one of "
            f"the folders, or out of {folder}."
        )
    if owners:
        return read_class_folders(folder)
    if not loose:
        return None
    labels = {Path(name).stem: 0 for name in loose}
    return read_flat(folder, labels, [ONLY_CLASS])


def count_classes(root: Path) -> int | None:
    """Return the number of classes of the training set, or None if it can't be read."""
    with contextlib.suppress(OSError, ValueError):
        root = _checked(root)
        # Counting class folders is faster than listing all their images.
        for base in BASES:
            for name in SPLIT_NAMES["train"]:
                folder = root / base / name
                if folder.is_dir() and find_list(folder) is None and class_names(folder):
                    return len(class_names(folder))
        return len(_find_train(root).classes)
    return None


def _checked(root: Path) -> Path:
    root = root.expanduser()
    if not root.is_dir():
        raise ValueError(f"data.root={root}: there is no such folder.")
    return root


def _find_train(root: Path) -> ImageSource:
    """Find the training set, or all images if there are no splits."""
    source = _find(root, "train", None) or _undivided(root)
    if source is None:
        raise ValueError(
            f"data.root={root} has no images to train with: it needs folders of images, images, "
            "labels.csv, or one of the other formats in docs/data.md."
        )
    return _with_classes(root, "train", source, None)


def _undivided(root: Path) -> ImageSource | None:
    """Return all images of a folder; None if it has folders of splits."""
    splits = {name for names in SPLIT_NAMES.values() for name in names}
    return None if any((root / name).is_dir() for name in splits) else read_folder(root)


def _find(root: Path, split: str, classes: Sequence[str] | None) -> ImageSource | None:
    kit = "ILSVRC2012_devkit_t12"
    truth_folders = [root, root / kit / "data", root / "data", *(root / base for base in BASES)]
    source: ImageSource | None = find_arrays(root, split)
    if source is not None:
        return source
    for base in (root / base for base in BASES):
        for name in SPLIT_NAMES[split]:
            source = _in_folder(base / name, split, truth_folders, classes)
            source = source or _in_tar(base, name, truth_folders, classes)
            shards = [path for pattern in SHARDS for path in base.glob(pattern.format(name))]
            source = source or (ShardSource(sorted(shards), classes) if shards else None)
            tables = sorted(base.glob(f"{name}-*.parquet")) or sorted(base.glob(f"{name}.parquet"))
            source = source or (ParquetSource(tables, classes) if tables else None)
            if source is not None:
                return source
    return None


def _in_folder(
    folder: Path, split: str, truth_folders: Sequence[Path], classes: Sequence[str] | None
) -> ImageSource | None:
    if not folder.is_dir():
        return None
    source = read_folder(folder, classes)
    is_flat = source is not None and source.classes == [ONLY_CLASS] and not class_names(folder)
    if source is None or split == "train" or not is_flat or list(classes or ()) == [ONLY_CLASS]:
        return source
    truth = read_ground_truth([folder, folder.parent, *truth_folders], classes)
    return read_flat(folder, truth.labels, truth.classes)


def _in_tar(
    base: Path, name: str, truth_folders: Sequence[Path], classes: Sequence[str] | None
) -> ImageSource | None:
    for pattern in TARS:
        path = base / pattern.format(name)
        if not path.is_file():
            continue
        if has_labels(path):
            return ShardSource([path], classes)
        if b"/" in bytes(read_index(path).names[0]):
            return read_class_tar(path)
        truth = read_ground_truth([base, *truth_folders], classes)
        return read_flat_tar(path, truth.labels, truth.classes)
    return None


def _with_classes(
    root: Path, split: str, source: ImageSource, classes: Sequence[str] | None
) -> ImageSource:
    """Return ``source``; ``ValueError`` if it is empty or has other classes."""
    if len(source) == 0:
        raise ValueError(f"data.root={root} has an empty {split} set.")
    if classes is not None and source.classes != list(classes):
        raise ValueError(_other_classes(root, split, source.classes, classes))
    return source


def _other_classes(root: Path, split: str, found: Sequence[str], expected: Sequence[str]) -> str:
    extra = sorted(set(found) - set(expected)) or sorted(set(expected) - set(found))
    which = "has" if set(found) - set(expected) else "lacks"
    detail = f" ({split} {which} {extra[0]})" if extra else ""
    return (
        f"data.root={root}: {split} ({len(found)} classes) and train ({len(expected)}) must have "
        f"the same classes{detail}."
    )
