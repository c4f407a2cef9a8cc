"""Labels of ImageNet's validation set from every supported file."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bigr.data.sources.find import count_classes, find_source
from bigr.data.sources.ground_truth import read_ground_truth
from tests.image_files import (
    CLASSES,
    ODD,
    add,
    validation_images,
    write_folders,
    write_tar,
)


def devkit(path: Path) -> dict[str, int]:
    """ILSVRC2012_IDs count in another order than the wnids."""
    from scipy.io import savemat

    synsets = np.zeros(3, dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    for row, wnid in enumerate((CLASSES[2], CLASSES[0], CLASSES[1])):
        synsets[row] = (row + 1, wnid, "some fish")
    table = io.BytesIO()
    savemat(table, {"synsets": synsets})
    ids = b"2\n1\n3\n"  # so: class 0, class 2, class 1
    with tarfile.open(path, "w:gz") as tar:
        folder = "ILSVRC2012_devkit_t12/data"
        add(tar, f"{folder}/ILSVRC2012_validation_ground_truth.txt", ids)
        add(tar, f"{folder}/meta.mat", table.getvalue())
    return {}


def kaggle(path: Path) -> None:
    rows = [f"ILSVRC2012_val_{n:08d},{CLASSES[c]} 1 2 3 4 " for n, c in ((2, 2), (1, 0), (3, 1))]
    path.write_text("\n".join(["ImageId,PredictionString", *rows]) + "\n")


@pytest.mark.parametrize("form", ["devkit", "unpacked", "kaggle", "list", "wnids"])
@pytest.mark.parametrize("packing", ["folder", "tar"])
def test_flat_validation_set(tmp_path: Path, form: str, packing: str) -> None:
    write_folders(tmp_path, "train", {(owner, "1.JPEG"): ODD["colour"] for owner in CLASSES})
    if packing == "folder":
        (tmp_path / "val").mkdir()
        for name, data in validation_images().items():
            (tmp_path / "val" / name).write_bytes(data)
    else:
        write_tar(tmp_path / "ILSVRC2012_img_val.tar", validation_images())
    kit = tmp_path / "ILSVRC2012_devkit_t12.tar.gz"
    if form == "kaggle":
        kaggle(tmp_path / "LOC_val_solution.csv")
    elif form in ("list", "wnids"):
        labels = ("0", "2", "1") if form == "list" else (CLASSES[0], CLASSES[2], CLASSES[1])
        lines = [f"{name} {c}" for name, c in zip(validation_images(), labels, strict=True)]
        (tmp_path / "val.txt").write_text("\n".join(lines))
    else:
        devkit(kit)
        if form == "unpacked":
            with tarfile.open(kit) as tar:
                tar.extractall(tmp_path, filter="data")
            kit.unlink()
    train = find_source(tmp_path, "train")
    val = find_source(tmp_path, "val", train.classes)
    assert val.labels.tolist() == [0, 2, 1]
    assert val.classes == list(CLASSES)
    assert [val.read(i) for i in range(3)] == list(validation_images().values())
    assert val.name(1) == "ILSVRC2012_val_00000002.JPEG"


def test_kaggles_folders(tmp_path: Path) -> None:
    base = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    write_folders(base, "train", {(owner, "1.JPEG"): ODD["colour"] for owner in CLASSES})
    (base / "val").mkdir()
    for name, data in validation_images().items():
        (base / "val" / name).write_bytes(data)
    kaggle(tmp_path / "LOC_val_solution.csv")
    train = find_source(tmp_path, "train")
    assert find_source(tmp_path, "val", train.classes).labels.tolist() == [0, 2, 1]
    assert count_classes(tmp_path) == 3


def test_validation_without_truth(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "1.jpg").write_bytes(ODD["colour"])
    with pytest.raises(ValueError, match=r"no file with their classes: copy LOC_val_solution\.csv"):
        find_source(tmp_path, "val", CLASSES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val.txt", "one two three\n", r"val\.txt, line 1: expected '<file> <class>'"),
        ("val.txt", "\n", r"val\.txt is empty"),
        ("val.txt", "a.JPEG 7\n", r"has class 7, but the training set only 0\.\.2"),
        ("val.txt", "a.JPEG n99999999\n", "has the class n99999999, which is not in the training"),
        ("LOC_val_solution.csv", "a,b\n1,2\n", "needs the columns ImageId,PredictionString"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_ground_truth([tmp_path], CLASSES)
