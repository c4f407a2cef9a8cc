"""Statistics of real images: where they come from, and whether they fit.

A reference is ADM's ``.npz`` (``mu``, ``sigma``, ``mu_s``, ``sigma_s`` and images ``arr_0``), a
file that was written here (the same names, so that ADM's suite reads it, and an identity), a folder
of images, or the held-out digits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bigr.data.digits import load_digits
from bigr.data.files import replacing, sha256
from bigr.data.image_dataset import ImageSet, MemoryImages
from bigr.data.sources.find import find_source
from bigr.evaluation.evaluator import file_state
from bigr.evaluation.feature_chunks import FeatureChunks, feature_arrays, split
from bigr.evaluation.reference_images import ArchivedImages, DatasetImages, ReferenceImages
from bigr.inference.processes import Processes
from bigr.metrics.features import FeatureNetwork
from bigr.metrics.frechet import frechet_distance
from bigr.metrics.statistics import FeatureStatistics, Reference

log = logging.getLogger(__name__)

DIGITS = "digits"
NUM_POINTS = 10_000
"""Images of a reference for precision, recall and KID, as many as ADM uses."""
CHUNK_SIZE = 512
BATCH_SIZE = 64
SUSPICIOUS_DISTANCE = 15.0
"""FID between the images of an ADM file and its statistics; 10,000 of the same give 2 to 3."""
ARRAYS = {
    "mu": "mean",
    "sigma": "covariance",
    "mu_s": "spatial_mean",
    "sigma_s": "spatial_covariance",
    "points": "points",
}
"""Names of the arrays in a file, and the fields of a :class:`Reference`."""

_references: dict[tuple[Any, ...], Reference] = {}


def cache_folder() -> Path:
    """Return ``$BIGR_CACHE``, or ``bigr`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BIGR_CACHE") or Path(base) / "bigr")


def cached_reference(
    where: str, network: FeatureNetwork, image_size: int, *, split: str, **more: Any
) -> Reference:
    """Call :func:`load_reference` once for the same unchanged file or folder.

    The jobs of a sweep share the result. A file that changed in the meantime is read again.
    """
    state = file_state(where) if Path(where).expanduser().exists() else ()
    key = (where, network.identity, image_size, split, state)
    if key not in _references:
        _references.clear()
        _references[key] = load_reference(where, network, image_size, split=split, **more)
    return _references[key]


def load_reference(
    where: str,
    network: FeatureNetwork,
    image_size: int,
    *,
    split: str = "val",
    processes: Processes,
    device: torch.device,
) -> Reference:
    """Return the statistics of ``where``; those of images are computed once and cached.

    Args:
        where: a file, a folder or ``digits``.
        network: defines the feature space.
        image_size: side of the generated images.
        split: split of a folder.
        processes: that share the work.
        device: of the network.

    Raises:
        ValueError: if there is no such file or folder, or it was made with another resolution,
            network or number of features.
    """
    path = Path(where).expanduser()
    if path.is_file():
        if path.suffix != ".npz":
            raise ValueError(f"evaluation.reference={path} isn't an .npz, a folder or {DIGITS}.")
        with np.load(path, allow_pickle=False) as file:
            names = file.files
        if "identity" not in names:
            return _load_adm(path, names, network, image_size, processes, device)
        reference = read_reference(path)
        _check(reference, path, network, image_size)
        return reference
    images: ReferenceImages
    if where == DIGITS:
        digits = load_digits("test" if split == "val" else "train", image_size)
        images = DatasetImages(MemoryImages(digits, DIGITS))
    elif path.is_dir():
        images = DatasetImages(ImageSet(find_source(path, split), image_size, decoder="pil"))
    else:
        raise ValueError(
            f"evaluation.reference={where}: there is no such file or folder, seen from "
            f"{Path.cwd()}."
        )
    return _compute(images, where, network, image_size, processes, device)


def read_reference(path: Path) -> Reference:
    """Read a file of :func:`write_reference`."""
    with np.load(path, allow_pickle=False) as file:
        found = {ARRAYS[n]: torch.from_numpy(file[n]) for n in file.files if n != "identity"}
        return Reference(**found, identity=json.loads(str(file["identity"])))


def write_reference(reference: Reference, path: Path) -> None:
    """Write the statistics under ADM's names, and the identity."""
    found = {name: getattr(reference, field) for name, field in ARRAYS.items()}
    arrays: dict[str, Any] = {n: value.numpy() for n, value in found.items() if value is not None}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, identity=np.array(json.dumps(reference.identity)), **arrays)


def _check(reference: Reference, path: Path, network: FeatureNetwork, image_size: int) -> None:
    for name, ours in (("image_size", image_size), ("network", network.identity)):
        theirs = reference.identity.get(name)
        if theirs != ours:
            raise ValueError(
                f"evaluation.reference={path} was made with {name} {theirs}, and this evaluation "
                f"has {ours}: figures against it would be meaningless."
            )


def _compute(
    images: ReferenceImages,
    title: str,
    network: FeatureNetwork,
    image_size: int,
    processes: Processes,
    device: torch.device,
) -> Reference:
    """Return the statistics of ``images`` from the cache, or compute them in all processes."""
    if len(images) < 2:
        raise ValueError(f"evaluation.reference={title} has {len(images)} images, too few.")
    # 1. The cache knows the statistics by network, size and images.
    identity = {
        "network": network.identity,
        "image_size": image_size,
        "count": len(images),
        "source": images.fingerprint(),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / "references" / f"{key}.npz"
    if processes.broadcast(path.is_file()):
        return read_reference(path)
    # 2. Features, in files that survive an interruption.
    log.info("reference: features of %d images of %s (once)", len(images), title)
    chunks = FeatureChunks(path.with_suffix(".part"), identity, len(images), CHUNK_SIZE)

    def batches_of(todo: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        for chosen in split(todo, BATCH_SIZE):
            yield feature_arrays(network, images.batch(chosen).to(device))

    chunks.fill(processes, batches_of)
    # 3. Their statistics.
    if processes.is_first:
        write_reference(_summary(chunks, {**identity, "title": title}), path)
        chunks.remove()
    processes.barrier()
    return read_reference(path)


def _summary(chunks: FeatureChunks, identity: dict[str, Any]) -> Reference:
    statistics = FeatureStatistics()
    for features in chunks.features():
        statistics.update(features)
    assert statistics.pool is not None
    pool, spatial, points = statistics.pool, statistics.spatial, statistics.points
    chosen = torch.linspace(0, len(points) - 1, min(NUM_POINTS, len(points))).round().long()
    return Reference(
        pool.mean,
        pool.covariance,
        None if spatial is None else spatial.mean,
        None if spatial is None else spatial.covariance,
        points[chosen],
        identity,
    )


def _load_adm(
    path: Path,
    names: Sequence[str],
    network: FeatureNetwork,
    image_size: int,
    processes: Processes,
    device: torch.device,
) -> Reference:
    """Return ADM's statistics, with the features of its images in our network."""
    missing = [name for name in ("mu", "sigma") if name not in names]
    if missing:
        raise ValueError(
            f"evaluation.reference={path} has no {' and '.join(missing)}: it isn't a reference of "
            "ADM's evaluation suite, such as VIRTUAL_imagenet256_labeled.npz."
        )
    with np.load(path, allow_pickle=False) as file:
        found = {n: torch.from_numpy(file[n]).double() for n in names if n != "arr_0"}
    if network.prefix:
        raise ValueError(
            f"evaluation.reference={path} is about Inception's features, and evaluation.network is "
            "another."
        )
    points = None
    if "arr_0" in names:
        images = ArchivedImages(path)
        if images.shape[1:3] != (image_size, image_size):
            height, width = images.shape[1:3]
            raise ValueError(
                f"evaluation.reference={path} holds images of {height}x{width} pixels, and the "
                f"generated ones have {image_size}x{image_size}: take the reference of that size."
            )
        own = _compute(images, str(path), network, image_size, processes, device)
        points = own.points
        distance = frechet_distance(own.mean, own.covariance, found["mu"], found["sigma"])
        log.info("reference: FID %.2f between its %d images and its mu", distance, len(images))
        if distance > SUSPICIOUS_DISTANCE:
            log.warning(
                "evaluation.reference=%s: the FID between its images and its statistics is %.1f; "
                "were the statistics made with another network?",
                path,
                distance,
            )
    else:
        log.warning("evaluation.reference=%s has no images: no precision, recall or KID", path)
    return Reference(
        found["mu"],
        found["sigma"],
        found.get("mu_s"),
        found.get("sigma_s"),
        points,
        {"network": network.identity, "image_size": image_size, "source": sha256(path)},
    )
