"""Folders, tars and parquet give the same samples; what is wrong with them is said."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from bigr.data.broken import TooManyBrokenError
from bigr.data.class_names import display_names
from bigr.data.image_dataset import ImageSet, Sample
from bigr.data.sources import tar as tar_module
from bigr.data.sources.find import count_classes, find_source
from tests.image_files import (
    CLASSES,
    add,
    broken_images,
    encoded,
    odd_images,
    photograph,
    write_folders,
    write_nested_tar,
    write_parquet,
    write_tar,
)

ODD = odd_images()
BROKEN = broken_images()


def training_images() -> dict[tuple[str, str], bytes]:
    """Odd and broken ones, spread over three classes."""
    images = {}
    for index, (kind, data) in enumerate(sorted({**ODD, **BROKEN}.items())):
        owner = CLASSES[index % len(CLASSES)]
        images[owner, f"{owner}_{kind}.JPEG"] = data
    return images


def validation_images() -> dict[str, bytes]:
    return {
        f"ILSVRC2012_val_{n:08d}.JPEG": encoded(photograph(80, 70, shift=n * 40)) for n in (1, 2, 3)
    }


def samples(dataset: ImageSet) -> list[Sample]:
    return [dataset[index] for index in range(len(dataset))]


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    images = training_images()
    write_folders(tmp_path / "folders", "train", images)
    write_nested_tar(tmp_path / "tars" / "ILSVRC2012_img_train.tar", images)
    write_tar(tmp_path / "flat_tar" / "train.tar", {"/".join(key): d for key, d in images.items()})
    write_parquet(tmp_path / "parquet", "train", images)
    names = ("folders", "tars", "flat_tar", "parquet")
    return {name: tmp_path / name for name in names}


@pytest.mark.parametrize("decoder", ["torchvision", "pil"])
def test_all_sources_give_the_same_samples(roots: dict[str, Path], decoder: str) -> None:
    images = training_images()
    expected = [images[key] for key in sorted(images)]
    found = {}
    for kind, root in roots.items():
        source = find_source(root, "train")
        assert [source.read(index) for index in range(len(source))] == expected
        assert source.classes == list(CLASSES)
        found[kind] = samples(ImageSet(source, 64, decoder=decoder))  # type: ignore[arg-type]
    for kind, others in found.items():
        for ours, theirs in zip(found["folders"], others, strict=True):
            assert torch.equal(ours.image, theirs.image), kind
            assert ours.label == theirs.label
            assert len(ours.broken) == len(theirs.broken)
            assert [b.reason for b in ours.broken] == [b.reason for b in theirs.broken]


def test_broken_ones_are_replaced_by_the_next_good_one(roots: dict[str, Path]) -> None:
    dataset = ImageSet(find_source(roots["folders"], "train"), 32)
    names = [dataset.name(index) for index in range(len(dataset))]
    is_bad = [any(f"_{kind}." in name for kind in BROKEN) for name in names]
    assert sum(is_bad) == len(BROKEN)
    for index, sample in enumerate(samples(dataset)):
        good = next(
            i % len(names) for i in range(index, 2 * len(names)) if not is_bad[i % len(names)]
        )
        assert torch.equal(sample.image, dataset[good].image)
        assert sample.label == CLASSES.index(names[good].split("/")[0])
        skipped = [names[i % len(names)] for i in range(index, good + (good < index) * len(names))]
        assert [image.name for image in sample.broken] == skipped


def test_nothing_but_broken_images(tmp_path: Path) -> None:
    write_folders(tmp_path, "train", {("a", f"{n}.jpg"): b"" for n in range(5)})
    dataset = ImageSet(find_source(tmp_path, "train"), 32)
    with pytest.raises(TooManyBrokenError, match=r"5 images in a row .*a/3\.jpg \(empty file\)"):
        dataset[3]


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    write_folders(tmp_path, "train", {("a", f"{n}.jpg"): ODD["colour"] for n in range(2)})
    dataset = ImageSet(find_source(tmp_path, "train"), 32)
    (tmp_path / "train" / "a" / "0.jpg").unlink()
    assert dataset[0].broken[0].reason == "the file is gone"


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


def test_the_index_of_a_tar_is_made_once(
    roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = roots["tars"] / "ILSVRC2012_img_train.tar"
    first = find_source(roots["tars"], "train")
    monkeypatch.setattr(tar_module, "_make_index", lambda _: pytest.fail("made again"))
    second = find_source(roots["tars"], "train")
    assert first.fingerprint() == second.fingerprint()
    monkeypatch.undo()
    saved = path.with_name(path.name + tar_module.ENDING)
    saved.write_bytes(b"PK broken")
    assert find_source(roots["tars"], "train").fingerprint() == first.fingerprint()
    write_nested_tar(path, {(CLASSES[0], "1.JPEG"): ODD["colour"]})  # another tar
    assert len(find_source(roots["tars"], "train")) == 1


def test_the_index_of_a_read_only_folder_goes_to_the_cache(
    roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    real = tar_module._save_index

    def save(place: Path, *rest: object) -> None:
        if place.parent == roots["tars"]:
            raise PermissionError(13, "Permission denied")
        real(place, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tar_module, "_save_index", save)
    find_source(roots["tars"], "train")
    assert len(list((tmp_path / "cache" / "bigr").iterdir())) == 1
    monkeypatch.setattr(tar_module, "_make_index", lambda _: pytest.fail("made again"))
    find_source(roots["tars"], "train")


@pytest.mark.parametrize("kind", ["folders", "tars", "parquet"])
def test_sources_travel_to_workers(roots: dict[str, Path], kind: str) -> None:
    source = find_source(roots[kind], "train")
    expected = source.read(5)
    assert pickle.loads(pickle.dumps(source)).read(5) == expected


def test_blocks_of_parquet(roots: dict[str, Path]) -> None:
    source = find_source(roots["parquet"], "train")
    assert len(source) == 18
    assert source.blocks is not None
    assert source.blocks.tolist() == [0, 4, 8, 9, 13, 17]
    assert source.name(10) == "train-00001-of-00002.parquet:1"
    assert find_source(roots["tars"], "train").blocks is None


def test_fingerprints_tell_lists_apart(tmp_path: Path) -> None:
    one = {("a", "1.jpg"): ODD["colour"], ("b", "2.jpg"): ODD["colour"]}
    write_folders(tmp_path / "one", "train", one)
    write_folders(tmp_path / "two", "train", one)
    write_folders(tmp_path / "three", "train", {**one, ("b", "3.jpg"): ODD["colour"]})
    prints = [find_source(tmp_path / n, "train").fingerprint() for n in ("one", "two", "three")]
    assert prints[0] == prints[1] != prints[2]


def _cut_tar(root: Path) -> None:
    write_nested_tar(root / "ILSVRC2012_img_train.tar", training_images())
    with (root / "ILSVRC2012_img_train.tar").open("rb+") as file:
        file.truncate(60_000)


def _compressed_tar(root: Path) -> None:
    write_nested_tar(root / "plain.tar", training_images())
    (root / "train.tar").write_bytes(gzip.compress((root / "plain.tar").read_bytes()))


def _parquet_without_labels(root: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [b"1"], "caption": ["x"]}), root / "train-0.parquet")


WRONG = {
    "nothing": (lambda root: None, "has no images to train with"),
    "loose": (
        lambda root: [os.makedirs(root / "train"), (root / "train" / "1.jpg").write_bytes(b"")],
        "images outside class folders",
    ),
    "hollow": (lambda root: os.makedirs(root / "train" / "cat"), "cat has no images"),
    "cut_tar": (_cut_tar, "cut off|unexpected end"),
    "compressed_tar": (_compressed_tar, "if it is compressed, unpack it"),
    "parquet": (_parquet_without_labels, "columns image, caption, and none of label"),
    "no_parquet": (
        lambda root: (root / "train-0.parquet").write_bytes(b"PAR1"),
        "can't be read as parquet",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_read_is_explained(tmp_path: Path, kind: str) -> None:
    make, message = WRONG[kind]
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        find_source(tmp_path, "train")


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.root=.*nowhere: there is no such folder"):
        find_source(tmp_path / "nowhere", "train")


def test_other_classes_in_validation(tmp_path: Path) -> None:
    for split, owners in (("train", "ab"), ("val", "ac")):
        write_folders(tmp_path, split, {(owner, "1.jpg"): ODD["colour"] for owner in owners})
    with pytest.raises(ValueError, match=r"must be the same \(val has c\)"):
        find_source(tmp_path, "val", find_source(tmp_path, "train").classes)


def test_validation_without_truth(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "1.jpg").write_bytes(ODD["colour"])
    with pytest.raises(ValueError, match=r"no file says their classes: put LOC_val_solution\.csv"):
        find_source(tmp_path, "val", CLASSES)


def test_missing_pyarrow(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"pip install 'bigr-lightning\[parquet\]'"):
        find_source(roots["parquet"], "train")


def test_display_names() -> None:
    wnids = [f"n{number:08d}" for number in range(1000)]
    names = display_names(wnids)
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")
    assert display_names(["cat", "dog"]) == ["cat", "dog"]
