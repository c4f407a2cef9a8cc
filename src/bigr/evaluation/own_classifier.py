"""The classifier of a user's own images: trained once, and kept in the cache."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from torch import Tensor

from bigr.data.array_files import Arrays, read_arrays, write_arrays
from bigr.data.sealed_json import DamagedFileError
from bigr.evaluation.computed_references import KEY, cache_folder
from bigr.evaluation.stored_images import find_images
from bigr.inference.processes import Processes
from bigr.metrics.own_network import OwnNetwork, small_images

log = logging.getLogger(__name__)

MAX_IMAGES = 20_000
VERSION = 1
"""Changes with the network and its training, so that older files in the cache are not used."""


def own_network(
    where: str,
    image_size: int,
    *,
    split: str,
    labels: Tensor | None = None,
    processes: Processes,
) -> OwnNetwork:
    """Return a classifier of the classes of a reference, the same one in all processes.

    If the reference has a single class, the network learns to recognise rotated images.

    The first process trains it, or reads it from the cache.

    Args:
        where: images, in folders by class if there are classes; see
            :func:`bigr.evaluation.stored_images.find_images`.
        image_size: side of the images.
        split: split of a folder that has several.
        labels: classes of the images that are compared, if they have any.
        processes: that need the network.

    Raises:
        ValueError: if there are fewer than ten images, one is broken, or the classes do not fit.
    """
    images = find_images(where, KEY, image_size=image_size, split=split)
    known = images.labels()
    count = None if known is None else int(known.max()) + 1
    if count is not None and labels is not None and int(labels.max()) >= count:
        raise ValueError(
            f"evaluation.network=own has learned the {count} classes of {KEY}={where}, but the "
            f"images have {int(labels.max()) + 1}."
        )
    network = OwnNetwork(count)
    arrays: Arrays | None = None
    if processes.is_first:
        state = f"{VERSION} {image_size} {images.fingerprint()}"
        key = hashlib.sha256(state.encode()).hexdigest()[:16]
        path = cache_folder() / "classifiers" / f"{key}.npz"
        arrays = _cached(path)
        if arrays is None:
            log.info("training a classifier of the images of %s (only once)", where)
            used = min(len(images), MAX_IMAGES)
            chosen = torch.linspace(0, len(images) - 1, used).round().long()
            small = [small_images(images.batch(range(i, i + 1))) for i in chosen.tolist()]
            network.fit(torch.cat(small), None if known is None else known[chosen])
            arrays = network.arrays()
            write_arrays(path, arrays, {"images": where})
    network.restore(processes.broadcast(arrays))
    what = "images" if count is not None else "rotations of images"
    log.info("the classifier recognises %.1f%% of held-out %s", 100 * network.accuracy, what)
    return network


def _cached(path: Path) -> Arrays | None:
    """Return the weights in the cache; None if there are none, or the file is damaged."""
    if not path.exists():
        return None
    try:
        return read_arrays(path)[0]
    except DamagedFileError as error:
        log.warning("%s; the classifier is trained again", error)
        return None
