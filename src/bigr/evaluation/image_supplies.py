"""Where the images of an evaluation come from: a generator, or files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from bigr.data.image_arrays import to_uint8
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.feature_chunks import feature_arrays
from bigr.evaluation.stored_images import StoredImages
from bigr.inference.generate import LabelOrder, class_labels, generate_batches
from bigr.metrics.features import FeatureNetwork
from bigr.sampling.sampler import Sampler

NETWORK_BATCH = 32
"""Number of images that pass through a network at a time."""


class ImageSupply(Protocol):
    """Images in a fixed order, each of which is available at any time."""

    count: int
    """Number of images."""
    image_size: int
    """Side of the images in pixels."""
    labels: Tensor | None
    """Classes (n,) int64 of the images, if they have any."""

    def identity(self) -> dict[str, Any]:
        """Return everything that the images depend on, as plain data."""

    def batches(self, images: range) -> Iterator[Tensor]:
        """Yield the images with these numbers, in order, as (B, 3, H, W) uint8."""

    def shown(self, count: int) -> list[int]:
        """Return the numbers of at most ``count`` images of many classes, for a picture."""

    def can_repeat(self) -> bool:
        """Return whether the images are cheap to produce a second time."""


class GeneratedImages:
    """Images of a generator; image i has the seed ``seed + i``.

    Args:
        context: the models and the settings of the sampler.
        count: number of images.
        order: order of the classes; see :func:`bigr.inference.generate.class_labels`.
        seed: seed of the first image.
        batch_size: images at a time.
    """

    def __init__(
        self,
        context: EvaluationContext,
        count: int,
        *,
        order: LabelOrder = "balanced",
        seed: int = 0,
        batch_size: int = 64,
    ) -> None:
        self.context = context
        self.models = context.models
        self.count = count
        self.order: LabelOrder = order
        self.seed = seed
        self.batch_size = batch_size
        self.image_size = self.models.autoencoder.config.image_size
        self.sampler = Sampler(context.sampler, context.execution)
        classes = self.models.generator.config.num_classes
        self.labels: Tensor | None = class_labels(count, classes, order, seed)

    def identity(self) -> dict[str, Any]:
        """Return the checksums of the models, and the settings."""
        return {
            **self.context.checksums(),
            "sampler": self.context.sampler.to_dict(),
            "execution": dataclasses.asdict(self.context.execution),
            "labels": self.order,
            "seed": self.seed,
        }

    def batches(self, images: range) -> Iterator[Tensor]:
        """Generate the images with these numbers."""
        assert self.labels is not None
        for batch in generate_batches(
            self.models,
            self.sampler,
            self.labels[images.start : images.stop],
            seed=self.seed + images.start,
            batch_size=self.batch_size,
        ):
            yield to_uint8(batch.images)

    def shown(self, count: int) -> list[int]:
        """Return the numbers of the first images, whose classes take turns."""
        return list(range(min(count, self.count)))

    def can_repeat(self) -> bool:
        """Return False: images would have to be generated again."""
        return False


class FirstImages:
    """The first images of a set that is stored in files.

    Args:
        images: all images.
        title: how the user refers to them.
        count: number of images; None takes all.
        batch_size: images at a time.

    Raises:
        ValueError: if there are fewer images.
    """

    def __init__(
        self, images: StoredImages, title: str, *, count: int | None = None, batch_size: int = 64
    ) -> None:
        if count is not None and count > len(images):
            raise ValueError(
                f"{title} has {len(images):,} images, but evaluation.count={count:,}: "
                "evaluation.count=null uses all of them."
            )
        self.images = images
        self.title = title
        self.count = len(images) if count is None else count
        if self.count < 2:
            raise ValueError(f"{title} has {self.count} images, but at least 2 are needed.")
        self.batch_size = batch_size
        self.image_size = images.image_size
        labels = images.labels()
        self.labels = None if labels is None else labels[: self.count]

    def identity(self) -> dict[str, Any]:
        """Return the fingerprint of the images, and their size."""
        return {"samples": self.images.fingerprint(), "image_size": self.image_size}

    def batches(self, images: range) -> Iterator[Tensor]:
        """Read the images with these numbers."""
        for start in range(images.start, images.stop, self.batch_size):
            yield self.images.batch(range(start, min(start + self.batch_size, images.stop)))

    def shown(self, count: int) -> list[int]:
        """Return evenly spaced numbers, because folders are often sorted by class."""
        spaced = torch.linspace(0, self.count - 1, min(count, self.count)).round().long()
        return [int(number) for number in spaced]

    def can_repeat(self) -> bool:
        """Return True: the files can be read again."""
        return True


def first_images_of(
    sets: Mapping[str, StoredImages], *, count: int | None, batch_size: int
) -> list[FirstImages]:
    """Return the first images of sets that are compared with each other.

    Args:
        sets: all images, by how the user refers to them.
        count: number of images; None takes all.
        batch_size: images at a time.

    Raises:
        ValueError: if the sets differ in the number or in the size of their images.
    """
    found = [
        FirstImages(images, title, count=count, batch_size=batch_size)
        for title, images in sets.items()
    ]
    for name in ("count", "image_size"):
        values = [getattr(supply, name) for supply in found]
        if len(set(values)) > 1:
            raise ValueError(
                f"{' and '.join(sets)} must have equally many images of one size, but {name} is "
                f"{' and '.join(map(str, values))}: set evaluation.{name}={min(values)}."
            )
    return found


def feature_batches(
    supply: ImageSupply,
    network: FeatureNetwork,
    device: torch.device,
    *,
    keeps: Callable[[range], bool],
) -> Callable[[Sequence[range]], Iterator[dict[str, Tensor]]]:
    """Return what computes the features of images, for :meth:`FeatureChunks.fill`.

    Args:
        supply: the images.
        network: network that computes the features.
        device: device of the network.
        keeps: whether the pixels of some images are also returned, as ``images``.
    """

    def batches_of(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        for images in todo:
            for pixels in regroup(supply.batches(images), NETWORK_BATCH):
                arrays = feature_arrays(network, pixels.to(device))
                yield {**arrays, "images": pixels} if keeps(images) else arrays

    return batches_of


def regroup(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the rows of ``batches`` in groups of ``size``; the last group may be smaller.

    A network's features differ in the last digits with the size of the batch. With groups of one
    size they do not depend on how many images are generated or read at a time.
    """
    waiting: list[Tensor] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= size:
            *whole, rest = torch.cat(waiting).split(size)
            if len(rest) == size:
                whole, rest = [*whole, rest], rest[:0]
            yield from whole
            waiting = [rest]
    rest = torch.cat(waiting) if waiting else torch.empty(0)
    if len(rest):
        yield rest
