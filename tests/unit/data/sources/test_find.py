"""Folders, tar files and parquet files give the same samples; problems are explained."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import pytest
import torch

from bigr.data.image_dataset import ImageSet, Sample
from bigr.data.sources.find import count_classes, find_source, find_splits
from tests.image_files import (
    CLASSES,
    ODD,
    encoded,
    photograph,
    training_images,
    write_arrow,
    write_flat,
    write_folders,
    write_listed,
    write_nested_tar,
    write_parquet,
    write_shards,
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


@pytest.mark.parametrize("kind", ["folders", "tars", "parquet", "arrow", "shards"])
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
        lambda root: [
            os.makedirs(root / "train" / "a"),
            write_flat(root / "train", {"1.jpg": b""}),
        ],
        "images outside class folders, such as 1.jpg",
    ),
    "no_training_set": (
        lambda root: write_folders(root, "val", {("a", "1.jpg"): b""}),
        "has no images to train with",
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
    with pytest.raises(ValueError, match=r"must have the same classes \(val has c\)"):
        find_source(tmp_path, "val", find_source(tmp_path, "train").classes)


def pictures(count: int) -> dict[tuple[str, str], bytes]:
    """``count`` different pictures for each of three classes."""
    return {
        (owner, f"{owner}_{n}.png"): encoded(photograph(16, 16, shift=50 * n + k), "PNG")
        for k, owner in enumerate(CLASSES)
        for n in range(count)
    }


def write_everywhere(root: Path, images: dict[tuple[str, str], bytes]) -> dict[str, Path]:
    """The same pictures in every format that needs no splits."""
    write_folders(root, "folders", images)
    write_listed(root / "csv", images, "csv")
    write_listed(root / "json", images, "json")
    write_arrow(root / "arrow", images)
    write_shards(f"{root}/shards/pets-{{:03d}}.tar", images)
    write_parquet(root / "hub", "pets", images)
    (root / "hub" / "data").rename(root / "parquet")
    names = ("folders", "csv", "json", "arrow", "shards", "parquet")
    return {name: root / name for name in names}


def test_images_without_splits_are_divided_alike_in_every_format(tmp_path: Path) -> None:
    images = pictures(9)
    expected: list[list[tuple[bytes, int]]] = []
    for kind, root in write_everywhere(tmp_path, images).items():
        splits = find_splits(root, 0.25)
        found = [[(s.read(i), int(s.labels[i])) for i in range(len(s))] for s in splits]
        expected = expected or found
        assert found == expected, kind
        assert [source.classes for source in splits] == [list(CLASSES)] * 2
        assert count_classes(root) == 3
        pixels = [ImageSet(source, 16)[0].image for source in splits]
        assert torch.equal(pixels[0], ImageSet(find_splits(root, 0.25)[0], 16)[0].image)
    assert sorted(data for part in expected for data, _ in part) == sorted(images.values())
    assert [label for _, label in expected[1]] == [0, 0, 1, 1, 2, 2]  # 2.25 of 9, rounded


def test_images_without_classes_are_one_class(tmp_path: Path) -> None:
    write_flat(tmp_path, {f"{n}.png": ODD["png"] for n in range(4)})
    train, val = find_splits(tmp_path)
    assert (len(train), len(val), train.classes) == (3, 1, ["images"])
    assert count_classes(tmp_path) == 1


def test_flat_folders_of_both_splits_are_one_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_flat(tmp_path / split, {f"{split}.png": ODD["png"]})
    assert [source.name(0) for source in find_splits(tmp_path)] == ["train.png", "val.png"]


def test_a_missing_validation_set_is_held_out(tmp_path: Path) -> None:
    write_folders(tmp_path, "train", pictures(5))
    train, val = find_splits(tmp_path, 0.2)
    assert (len(train), len(val)) == (12, 3)
    write_folders(tmp_path, "test", pictures(1))
    train, val = find_splits(tmp_path, 0.2)
    assert (len(train), len(val)) == (15, 3)
