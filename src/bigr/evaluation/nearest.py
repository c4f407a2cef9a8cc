"""The most similar training image of a few samples, which shows whether a generator copies.

A training set is read once, in parts, and only the distances to the few samples are kept. Shapes: k
samples, n training images, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bigr.data.image_arrays import to_float, to_uint8
from bigr.data.image_dataset import ImageSet, MemoryImages
from bigr.evaluation.feature_chunks import FeatureChunks, split
from bigr.evaluation.report import Report
from bigr.evaluation.stored_images import DatasetImages, StoredImages
from bigr.inference.processes import Processes
from bigr.metrics.features import FeatureNetwork

NUM_SHOWN = 16
NUM_COLUMNS = 8
"""Samples in the picture, and in each of its rows."""
MAX_SEARCHED = 20_000
"""Largest number of training images that are compared in their pixels."""
CHUNK_SIZE = 4096
BATCH_SIZE = 64
FILE = "nearest.png"


class NearestSearch:
    """Finds the nearest neighbour of each of a few points among many that come in parts.

    Args:
        points: (k, D) features of the samples, or their pixels.
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points.double()
        self.distances = torch.full((len(points),), torch.inf, dtype=torch.float64)
        self.indices = torch.full((len(points),), -1)
        self.count = 0

    def update(self, points: Tensor) -> None:
        """Add the next points (n, D)."""
        self.update_distances(distances_to(self.points, points))

    def update_distances(self, distances: Tensor) -> None:
        """Add the distances (n, k) of the next points."""
        if not len(distances):
            return
        found, places = distances.double().cpu().min(dim=0)
        is_nearer = found < self.distances
        self.distances[is_nearer] = found[is_nearer]
        self.indices[is_nearer] = places[is_nearer] + self.count
        self.count += len(distances)


def distances_to(points: Tensor, others: Tensor) -> Tensor:
    """Return the Euclidean distances (n, k) of ``others`` (n, D) to ``points`` (k, D).

    They are computed from differences: an equal point has the distance 0.
    """
    return torch.cdist(
        others.double(), points.to(others.device), compute_mode="donot_use_mm_for_euclid_dist"
    )


def search_images(
    points: Tensor,
    images: StoredImages,
    network: FeatureNetwork,
    folder: Path,
    *,
    processes: Processes,
    device: torch.device,
) -> NearestSearch:
    """Search all images of a training set for the nearest ones; every process calls this.

    Args:
        points: (k, D) features of the samples, the same in all processes.
        images: the training set.
        network: network that computes the features.
        folder: folder for the distances, from which an interrupted search continues.
        processes: the processes that share the work.
        device: device of the network.
    """
    settings = {
        "points": hashlib.sha256(points.cpu().numpy().tobytes()).hexdigest(),
        "training": images.fingerprint(),
        "network": network.identity,
    }
    chunks = FeatureChunks(folder, processes.broadcast(settings), len(images), CHUNK_SIZE)

    def batches_of(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        for chosen in split(todo, BATCH_SIZE):
            pool = network(images.batch(chosen).to(device)).pool
            yield {"distances": distances_to(points.double(), pool)}

    chunks.fill(processes, batches_of)
    search = NearestSearch(points)
    for arrays in chunks.read("distances"):
        search.update_distances(torch.from_numpy(arrays["distances"]))
    return search


@dataclass(frozen=True)
class NearestImages:
    """Samples and the training images nearest to them, the most similar pairs first.

    Args:
        samples: (k, 3, H, W) uint8.
        nearest: (k, 3, H, W) uint8.
        distances: (k,) distances of the pairs.
        indices: (k,) numbers of the samples in their set.
        names: names of the training images.
        where: how the user refers to the training images.
        count: number of training images that were searched.
    """

    samples: Tensor
    nearest: Tensor
    distances: Tensor
    indices: Tensor
    names: list[str]
    where: str
    count: int

    def picture(self) -> tuple[Tensor, int]:
        """Return rows of samples, each above a row of the training images nearest to them."""
        shown = min(NUM_SHOWN, len(self.samples))
        columns = min(NUM_COLUMNS, shown)
        shown -= shown % columns
        pairs = [part[:shown].unflatten(0, (-1, columns)) for part in (self.samples, self.nearest)]
        return to_float(torch.stack(pairs, dim=1).flatten(0, 2)), columns

    def add_to(self, report: Report, space: str) -> None:
        """Add the picture, its caption, a sentence about copies and the distances to a report.

        Args:
            report: report about the samples.
            space: where the distances were measured, such as ``the feature space of Inception``.
        """
        images, columns = self.picture()
        report.pictures[FILE] = images, columns
        report.captions[FILE] = (
            f"The {len(images) // 2} of {len(self.samples)} samples that are most "
            f"similar to a training image (odd rows), and the nearest of {self.count:,} images of "
            f"{self.where} in {space} (even rows)"
        )
        copies = int((self.samples == self.nearest).flatten(1).all(dim=1).sum())
        if copies:
            report.notes.append(
                f"{copies} of {len(self.samples)} samples equal an image of {self.where} "
                f"in every pixel ({FILE})."
            )
        pairs = zip(self.indices.tolist(), self.names, self.distances.tolist(), strict=True)
        report.metrics["nearest"] = {
            "images": self.where,
            "searched": self.count,
            "identical": copies,
            "pairs": [
                {"sample": index, "nearest": name, "distance": distance}
                for index, name, distance in pairs
            ],
        }


def nearest_in_pixels(
    samples: Tensor, images: ImageSet | MemoryImages, where: str
) -> NearestImages:
    """Search a training set for the images with the smallest difference in their pixels.

    Of more than 20,000 images, evenly spaced ones are searched. Broken images are skipped.

    Args:
        samples: (k, 3, H, W) uint8.
        images: the training set, with images of the same size.
        where: how the user refers to it.
    """
    search = NearestSearch(samples.flatten(1))
    numbers = torch.linspace(0, len(images) - 1, min(MAX_SEARCHED, len(images))).round().long()
    searched = []
    for number in numbers.tolist():
        sample = images[number]
        if not sample.broken:
            pixels = sample.image if sample.image.dtype == torch.uint8 else to_uint8(sample.image)
            search.update(pixels.flatten()[None])
            searched.append(number)
    search.indices = torch.tensor(searched)[search.indices]
    return nearest_images(search, samples, DatasetImages(images), where)


def nearest_images(
    search: NearestSearch,
    samples: Tensor,
    images: StoredImages,
    where: str,
    numbers: Sequence[int] | None = None,
) -> NearestImages:
    """Return the pairs that a search has found, by ascending distance.

    Args:
        search: finished search over the training images.
        samples: (k, 3, H, W) uint8.
        images: the training images, by their numbers in the search.
        where: how the user refers to them.
        numbers: numbers of the samples; None counts from 0.
    """
    order = search.distances.argsort(stable=True)
    found = search.indices[order].tolist()
    return NearestImages(
        samples[order],
        torch.cat([images.batch(range(index, index + 1)) for index in found]),
        search.distances[order],
        torch.tensor(numbers)[order] if numbers is not None else order,
        [images.name(index) for index in found],
        where,
        search.count,
    )
