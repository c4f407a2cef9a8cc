"""Folders, tar files and parquet files give the same samples; problems are explained."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import pytest
import torch

from bigr.data.image_dataset import ImageSet, Sample
from bigr.data.sources.find import find_source
from tests.image_files import (
    CLASSES,
    ODD,
    training_images,
    write_folders,
    write_nested_tar,
)


def samples(dataset: ImageSet) -> list[Sample]:
    return [dataset[index] for index in range(len(dataset))]


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


@pytest.mark.parametrize("kind", ["folders", "tars", "parquet"])
def test_sources_travel_to_workers(roots: dict[str, Path], kind: str) -> None:
    source = find_source(roots[kind], "train")
    expected = source.read(5)
    assert pickle.loads(pickle.dumps(source)).read(5) == expected


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
    "parquet": (_parquet_without_labels, "columns image, caption, but none of label"),
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
