"""The classifier of given images: trained once, and kept in the cache."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bigr.data.array_files import Arrays, read_arrays, write_arrays
from bigr.data.sealed_json import DamagedFileError
from bigr.evaluation.computed_references import KEY, cache_folder
from bigr.evaluation.stored_images import StoredImages, find_images
from bigr.inference.processes import Processes
from bigr.metrics.own_network import MAX_STEPS, OwnNetwork, small_images

log = logging.getLogger(__name__)

MAX_IMAGES = 60_000
VERSION = 2
"""Version of the network and its training. Files of other versions in the cache are not used."""
TRAINING = "evaluation.training"


def own_network(
    where: str,
    image_size: int,
    *,
    split: str,
    processes: Processes,
    labels: Tensor | None = None,
    training: str | None = None,
    name: str = "own",
    max_steps: int = MAX_STEPS,
) -> OwnNetwork:
    """Return a classifier of the classes of real images, the same one in all processes.

    It learns from training images and is tested on the reference, or learns from a part of the
    reference and is tested on the rest. If the images have a single class, it learns to recognise
    rotated images.

    The first process trains it, or reads it from the cache.

    Args:
        where: reference, in folders by class if there are classes; see
            :func:`bigr.evaluation.stored_images.find_images`.
        image_size: side of the images.
        split: split of a reference that has several.
        processes: the processes that need the network.
        labels: classes of the images that are compared, if they have any.
        training: images to learn from, if both they and the reference have classes; their split
            ``train`` is used. None learns from the reference.
        name: name of the classifier, see :class:`~bigr.metrics.own_network.OwnNetwork`.
        max_steps: largest number of training steps.

    Raises:
        ValueError: if there are fewer than ten images, one is broken, or the classes do not fit.
    """
    images = find_images(where, KEY, image_size=image_size, split=split)
    learned, tested = images, None
    if training is not None:
        found = find_images(training, TRAINING, image_size=image_size, split="train")
        if found.labels() is not None and images.labels() is not None:
            learned, tested = found, images
    known = learned.labels()
    count = None if known is None else int(known.max()) + 1
    taught = f"{KEY}={where}" if tested is None else f"{TRAINING}={training}"
    _check_classes(count, labels, taught, "images have")
    if tested is not None:
        _check_classes(count, tested.labels(), taught, "reference has")
    network = OwnNetwork(count, name=name)
    arrays: Arrays | None = None
    if processes.is_first:
        sources = [part.fingerprint() for part in (learned, tested) if part is not None]
        state = f"{VERSION} {image_size} {max_steps} {sources}"
        key = hashlib.sha256(state.encode()).hexdigest()[:16]
        path = cache_folder() / "classifiers" / f"{key}.npz"
        arrays = _cached(path)
        if arrays is None:
            title = where if tested is None else training
            log.info("training a classifier of the images of %s (only once)", title)
            pair = None if tested is None else _small(tested)
            network.fit(*_small(learned), pair, max_steps)
            arrays = network.arrays()
            write_arrays(path, arrays, {"images": title})
    network.restore(processes.broadcast(arrays))
    log.info("%s", accuracy_text(network))
    return network


def accuracy_text(network: OwnNetwork) -> str:
    """Return how many of the images that it was tested with a classifier recognises."""
    what = "images" if network.num_classes is not None else "rotations of images"
    return f"the classifier recognises {network.accuracy:.1%} of held-out {what}"


def _check_classes(count: int | None, labels: Tensor | None, taught: str, others: str) -> None:
    """Raise ``ValueError`` if there are labels of more classes than a classifier has learned."""
    if count is not None and labels is not None and int(labels.max()) >= count:
        raise ValueError(
            f"evaluation.network=own has learned the {count} classes of {taught}, but the {others} "
            f"{int(labels.max()) + 1}."
        )


def _small(images: StoredImages) -> tuple[Tensor, Any]:
    """Return at most ``MAX_IMAGES`` evenly spaced images at the network's size, and their labels.

    Without classes, the labels are None.
    """
    chosen = torch.linspace(0, len(images) - 1, min(len(images), MAX_IMAGES)).round().long()
    small = [small_images(images.batch(range(i, i + 1))) for i in chosen.tolist()]
    known = images.labels()
    return torch.cat(small), None if known is None else known[chosen]


def _cached(path: Path) -> Arrays | None:
    """Return the weights in the cache; None if there are none, or the file is damaged."""
    if not path.exists():
        return None
    try:
        return read_arrays(path)[0]
    except DamagedFileError as error:
        log.warning("%s; the classifier is trained again", error)
        return None
