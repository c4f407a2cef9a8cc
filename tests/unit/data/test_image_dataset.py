"""Datasets of images: broken images are replaced; images in memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from bigr.data.broken import TooManyBrokenError
from bigr.data.digits import LabelledImages
from bigr.data.image_dataset import ImageSet, MemoryImages, Sample
from bigr.data.sources.find import find_source
from tests.image_files import (
    BROKEN,
    CLASSES,
    ODD,
    write_folders,
    write_parquet,
)


def samples(dataset: ImageSet) -> list[Sample]:
    return [dataset[index] for index in range(len(dataset))]


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


def test_images_in_memory() -> None:
    images = torch.rand(4, 3, 8, 8)
    labels = torch.tensor([3, 1, 2, 0])
    dataset = MemoryImages(LabelledImages(images, labels), "digits")
    assert torch.equal(dataset[2].image, images[2])
    assert (len(dataset), dataset[2].label, dataset.name(2)) == (4, 2, "digits:2")
    views = dataset.views(1, ("mirror", "center"))
    assert torch.equal(views[0, :, :, 0], images[1, :, :, 7])
    assert torch.equal(views[1], images[1])
    with pytest.raises(ValueError, match="digits have no ten_crop"):
        dataset.views(1, ("ten_crop",))


def test_fingerprint_of_images_in_memory() -> None:
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    first = MemoryImages(LabelledImages(images, labels), "digits").fingerprint()
    assert MemoryImages(LabelledImages(images.clone(), labels), "other").fingerprint() == first
    assert MemoryImages(LabelledImages(images, labels.flip(0)), "digits").fingerprint() != first
    assert MemoryImages(LabelledImages(1 - images, labels), "digits").fingerprint() != first


def test_a_named_pipe_among_the_images(tmp_path: Path) -> None:
    """It counts as broken; opening it would block the loader until somebody writes into it."""
    write_folders(tmp_path, "train", {("a", "0.jpg"): ODD["colour"]})
    os.mkfifo(tmp_path / "train" / "a" / "1.jpg")
    dataset = ImageSet(find_source(tmp_path, "train"), 32)
    assert len(dataset) == 2
    broken = dataset[1].broken
    assert [image.name for image in broken] == ["a/1.jpg"]
    assert "is a named pipe" in broken[0].reason


def test_a_damaged_group_of_rows(tmp_path: Path) -> None:
    """Its images count as broken, and those of other groups take their place."""
    images = {("a", f"{number}.jpg"): ODD["colour"] for number in range(4)}
    write_parquet(tmp_path, "train", images, shards=1, group=2)
    (path,) = (tmp_path / "data").glob("*.parquet")
    data = path.read_bytes()
    path.write_bytes(b"PAR1" + bytes(60) + data[64:])
    found = ImageSet(find_source(tmp_path, "train"), 32)[0]
    assert [image.name for image in found.broken] == [f"{path.name}:0", f"{path.name}:1"]
    assert "Couldn't deserialize" in found.broken[0].reason
