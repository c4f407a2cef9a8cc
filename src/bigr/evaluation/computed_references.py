"""Statistics of real images, computed once for each network and size, and kept in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bigr.data.locks import LockedError, only_writer
from bigr.data.sealed_json import DamagedFileError
from bigr.evaluation.feature_chunks import FeatureChunks, feature_arrays, split
from bigr.evaluation.reference_files import read_reference, write_reference
from bigr.evaluation.stored_images import StoredImages
from bigr.inference.processes import Processes
from bigr.metrics.features import FeatureNetwork
from bigr.metrics.statistics import FeatureStatistics, Reference

log = logging.getLogger(__name__)

KEY = "evaluation.reference"
NUM_POINTS = 10_000
"""Number of images of a reference for precision, recall and KID, which is that of ADM."""
CHUNK_SIZE = 512
BATCH_SIZE = 64


def cache_folder() -> Path:
    """Return ``$BIGR_CACHE``, or ``bigr`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BIGR_CACHE") or Path(base) / "bigr")


def point_indices(count: int) -> Tensor:
    """Return the numbers of the images whose features a reference of ``count`` images keeps."""
    return torch.linspace(0, count - 1, min(NUM_POINTS, count)).round().long()


def compute_reference(
    images: StoredImages,
    title: str,
    network: FeatureNetwork,
    image_size: int,
    processes: Processes,
    device: torch.device,
) -> Reference:
    """Return the statistics of ``images`` from the cache, or compute them in all processes.

    Args:
        images: real images, which are read with the size ``image_size``.
        title: how the user refers to them.
        network: defines the feature space.
        image_size: side of the images.
        processes: the processes that share the work.
        device: device of the network.

    Raises:
        ValueError: if there are fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(
            f"evaluation.reference={title} has {len(images)} images, but at least 2 are needed."
        )
    # 1. The cache knows the statistics by network, size and images.
    identity = {
        "network": network.identity,
        "image_size": image_size,
        "count": len(images),
        "source": images.fingerprint(),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / "references" / f"{key}.npz"

    def known() -> Reference | None:
        return processes.broadcast(_cached(path, identity) if processes.is_first else None)

    found = known()
    if found is not None:
        if processes.is_first:  # left by a command that was killed just before the end
            shutil.rmtree(path.with_suffix(".part"), ignore_errors=True)
        return found
    with contextlib.ExitStack() as stack:
        if processes.is_first:
            stack.enter_context(_alone(path.parent))
        # 2. Another command may have computed them in the meantime.
        found = known()
        if found is not None:
            return found
        # 3. Features, in files that survive an interruption.
        log.info(
            "reference: computing the features of %d images of %s (only once)", len(images), title
        )
        chunks = FeatureChunks(path.with_suffix(".part"), identity, len(images), CHUNK_SIZE)

        def batches_of(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
            for chosen in split(todo, BATCH_SIZE):
                yield feature_arrays(network, images.batch(chosen).to(device))

        chunks.fill(processes, batches_of)
        # 4. Their statistics.
        if processes.is_first:
            found = _summary(chunks, {**identity, "title": title})
            write_reference(found, path)
            chunks.remove()
        reference: Reference = processes.broadcast(found)
        return reference


def _cached(path: Path, identity: dict[str, Any]) -> Reference | None:
    """Return the statistics in the cache; None if there are none, or the file is damaged."""
    if not path.exists():
        return None
    try:
        found = read_reference(path)
        if any(found.identity.get(name) != value for name, value in identity.items()):
            raise DamagedFileError(f"{path} is the reference of other images")
    except DamagedFileError as error:
        log.warning("%s; the reference is computed again", error)
        return None
    return found


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of the cache, and wait for it while another command holds it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_writer(folder, wait_seconds=0))
        except LockedError as error:
            log.info("waiting for the reference of another command: %s", error)
            stack.enter_context(only_writer(folder, wait_seconds=-1))
        yield


def _summary(chunks: FeatureChunks, identity: dict[str, Any]) -> Reference:
    statistics = FeatureStatistics()
    for features in chunks.features():
        statistics.update(features)
    assert statistics.pool is not None
    pool, spatial, points = statistics.pool, statistics.spatial, statistics.points
    return Reference(
        pool.mean,
        pool.covariance,
        None if spatial is None else spatial.mean,
        None if spatial is None else spatial.covariance,
        points[point_indices(len(points))],
        identity,
    )
