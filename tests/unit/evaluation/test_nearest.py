"""The training images that are nearest to samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from bigr.data.digits import LabelledImages
from bigr.data.image_dataset import MemoryImages
from bigr.evaluation.nearest import (
    NearestSearch,
    nearest_images,
    nearest_in_pixels,
    search_images,
)
from bigr.evaluation.report import Report
from bigr.evaluation.stored_images import DatasetImages, find_images
from bigr.inference.processes import ALONE
from bigr.metrics.features import Features

CPU = torch.device("cpu")


class Corners:
    """Two pixels of an image as its features; counts the images that it sees."""

    prefix, title, identity = "corners_", "corners", "ab" * 32

    def __init__(self) -> None:
        self.seen = 0

    def to(self, device: torch.device) -> Corners:
        return self

    def __call__(self, images: Tensor) -> Features:
        self.seen += len(images)
        return Features(images[:, 0, 0, :2].float())


def memory(count: int, seed: int, size: int = 4) -> MemoryImages:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator) / 255
    return MemoryImages(LabelledImages(images, torch.zeros(count).long()), "photos")


def test_against_brute_force() -> None:
    """In parts of any size, with the first of equally near points."""
    generator = torch.Generator().manual_seed(0)
    points, others = (torch.randn(count, 5, generator=generator) for count in (7, 40))
    others[33] = points[2]
    others[35] = points[2]
    distances = (points[:, None].double() - others[None].double()).square().sum(dim=2).sqrt()
    for sizes in ([40], [1] * 40, [13, 0, 27]):
        search = NearestSearch(points)
        for part in others.split(sizes):
            search.update(part)
        assert search.indices.tolist() == distances.argmin(dim=1).tolist()
        assert search.distances.tolist() == pytest.approx(distances.min(dim=1).values.tolist())
        assert (search.indices[2], search.distances[2], search.count) == (33, 0.0, 40)


def test_a_search_that_was_interrupted_continues(tmp_path: Path) -> None:
    """Distances that are in files are not computed again, unless the samples are others."""
    for number in range(5):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (10 * number, 0, 0)).save(path)
    images = find_images(str(tmp_path / "photos"), "training", image_size=4)
    network, folder = Corners(), tmp_path / "distances"
    points = torch.tensor([[11.0, 11.0], [38.0, 38.0]])
    for expected in (5, 5):
        search = search_images(points, images, network, folder, processes=ALONE, device=CPU)
        assert search.indices.tolist() == [1, 4]
        assert search.distances.tolist() == pytest.approx([2**0.5, 8**0.5])
        assert network.seen == expected
    with pytest.raises(ValueError, match="contains the features of another evaluation"):
        search_images(points + 1, images, network, folder, processes=ALONE, device=CPU)
    names = nearest_images(search, torch.zeros(2, 3, 4, 4), images, "photos", [7, 3]).names
    assert [Path(name).name for name in names] == ["1.png", "4.png"]


def test_the_most_similar_pairs_come_first() -> None:
    """A copy is found, named and counted; rows of samples alternate with rows of their images."""
    training, samples = memory(30, 0), (memory(20, 1).data.images * 255).to(torch.uint8)
    samples[13] = (training.data.images[21] * 255).to(torch.uint8)
    found = nearest_in_pixels(samples, training, "photos")
    assert found.names[0] == "photos:21"
    assert found.distances.tolist() == sorted(found.distances.tolist())
    report = Report({})
    found.add_to(report, "the space of their pixels")
    assert report.notes == [
        "1 of 20 samples equal an image of photos in every pixel (nearest.png)."
    ]
    about = report.metrics["nearest"]
    assert (about["searched"], about["identical"], len(about["pairs"])) == (30, 1, 20)
    assert about["pairs"][0] == {"sample": 13, "nearest": "photos:21", "distance": 0.0}
    picture, columns = report.pictures["nearest.png"]
    assert (len(picture), columns) == (32, 8)
    rows = (picture * 255).round().to(torch.uint8).unflatten(0, (4, 8))
    assert torch.equal(rows[0, 0], samples[13])
    assert torch.equal(rows[0, 0], rows[1, 0])
    for row, pair in ((rows[2], 8), (rows[0], 1)):
        assert torch.equal(row[0 if pair == 8 else 1], samples[about["pairs"][pair]["sample"]])


def test_few_samples() -> None:
    samples = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    search = NearestSearch(samples.flatten(1))
    training = memory(4, 0)
    search.update((training.data.images * 255).flatten(1))
    found = nearest_images(search, samples, DatasetImages(training), "photos")
    assert found.picture()[0].shape == (6, 3, 4, 4)
    assert found.picture()[1] == 3
    report = Report({})
    found.add_to(report, "the space of their pixels")
    assert report.notes == []
