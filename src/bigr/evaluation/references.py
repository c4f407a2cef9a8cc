"""Statistics of real images: where they come from, and whether they fit.

A reference is ADM's ``.npz`` (``mu``, ``sigma``, ``mu_s``, ``sigma_s`` and images ``arr_0``), a
file that was written here (the same names, so that ADM's suite reads it, and who they are), a
folder of images, or the held-out digits.
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
from bigr.data.files import sha256
from bigr.data.image_dataset import ImageSet, MemoryImages
from bigr.data.sources.find import find_source
from bigr.evaluation.feature_chunks import FeatureChunks, fill
from bigr.evaluation.reference_images import ArchivedPictures, Pictures, SetPictures
from bigr.inference.processes import Processes
from bigr.metrics.feature_networks import FeatureNetwork
from bigr.metrics.frechet import frechet_distance
from bigr.metrics.statistics import FeatureStatistics, Reference

log = logging.getLogger(__name__)

DIGITS = "digits"
NUM_POINTS = 10_000
"""Images of a reference that precision, recall and KID look at, as many as ADM's."""
CHUNK_SIZE = 512
BATCH_SIZE = 64
SUSPICIOUS_DISTANCE = 15.0
"""FID between an ADM file's own images and its statistics; 10,000 of the same give 2 to 3."""


def cache_folder() -> Path:
    """``$BIGR_CACHE``, or ``bigr`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BIGR_CACHE") or Path(base) / "bigr")


def load_reference(
    where: str,
    network: FeatureNetwork,
    image_size: int,
    *,
    split: str = "val",
    processes: Processes,
    device: torch.device,
) -> Reference:
    """Statistics of ``where``, computed if need be and kept in the cache.

    Args:
        where: a file, a folder or ``digits``.
        network: in whose feature space.
        image_size: side of the generated images.
        split: of a folder.
        processes: that share the work.
        device: of the network.

    Raises:
        ValueError: if it isn't there, or has another resolution, network or number of features.
    """
    path = Path(where).expanduser()
    if where != DIGITS and path.is_file():
        if path.suffix != ".npz":
            raise ValueError(f"evaluation.reference={path} isn't an .npz, a folder or {DIGITS}.")
        with np.load(path, allow_pickle=False) as file:
            names = file.files
        if "identity" in names:
            reference = read_reference(path)
            _check(reference, path, network, image_size)
            return reference
        return _adm(path, names, network, image_size, processes, device)
    if where != DIGITS and not path.is_dir():
        raise ValueError(
            f"evaluation.reference={where}: there is no such file or folder, seen from "
            f"{Path.cwd()}."
        )
    pictures = _pictures(where, split, image_size)
    return _cached(pictures, where, network, image_size, processes, device)


def read_reference(path: Path) -> Reference:
    """A file of :func:`write_reference`."""
    with np.load(path, allow_pickle=False) as file:
        found = {name: torch.from_numpy(file[name]) for name in file.files if name != "identity"}
        identity = json.loads(str(file["identity"]))
    return Reference(
        found["mu"],
        found["sigma"],
        found.get("mu_s"),
        found.get("sigma_s"),
        found.get("points"),
        identity,
    )


def write_reference(reference: Reference, path: Path) -> None:
    """Write ADM's names and an identity; a half-written file is never seen."""
    arrays = {
        "mu": reference.mean,
        "sigma": reference.covariance,
        "mu_s": reference.spatial_mean,
        "sigma_s": reference.spatial_covariance,
        "points": reference.points,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        found: dict[str, Any] = {
            n: value.numpy() for n, value in arrays.items() if value is not None
        }
        np.savez(file, identity=np.array(json.dumps(reference.identity)), **found)
    part.replace(path)


def _pictures(where: str, split: str, image_size: int) -> Pictures:
    if where == DIGITS:
        digits = load_digits("test" if split == "val" else "train", image_size)
        return SetPictures(MemoryImages(digits, "digits"))
    return SetPictures(ImageSet(find_source(Path(where), split), image_size, decoder="pil"))


def _check(reference: Reference, path: Path, network: FeatureNetwork, image_size: int) -> None:
    theirs = reference.identity
    for name, ours in (("image_size", image_size), ("network", network.identity)):
        if theirs.get(name) != ours:
            raise ValueError(
                f"evaluation.reference={path} was made with {name} {theirs.get(name)}, and this "
                f"evaluation has {ours}: figures against it would mean nothing."
            )


def _cached(
    pictures: Pictures,
    title: str,
    network: FeatureNetwork,
    image_size: int,
    processes: Processes,
    device: torch.device,
) -> Reference:
    """Statistics of ``pictures``, from the cache or computed by all processes."""
    if len(pictures) < 2:
        raise ValueError(f"evaluation.reference={title} has {len(pictures)} images, too few.")
    identity = {
        "network": network.identity,
        "image_size": image_size,
        "count": len(pictures),
        "source": pictures.fingerprint(),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / "references" / f"{key}.npz"
    if processes.broadcast(path.is_file()):
        return read_reference(path)
    log.info("reference: features of %d images of %s (once)", len(pictures), title)
    chunks = FeatureChunks(path.with_suffix(".part"), identity, len(pictures), CHUNK_SIZE)

    def images_of(chosen: range) -> Iterator[Tensor]:
        for start in range(chosen.start, chosen.stop, BATCH_SIZE):
            yield pictures.batch(range(start, min(start + BATCH_SIZE, chosen.stop))).to(device)

    todo: Sequence[range] = processes.broadcast(chunks.pending())
    fill(chunks, todo[processes.rank :: processes.count], images_of, network)
    processes.barrier()
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
    spatial = statistics.spatial
    points = statistics.points
    chosen = torch.linspace(0, len(points) - 1, min(NUM_POINTS, len(points))).round().long()
    return Reference(
        statistics.pool.mean,
        statistics.pool.covariance,
        None if spatial is None else spatial.mean,
        None if spatial is None else spatial.covariance,
        points[chosen],
        identity,
    )


def _adm(
    path: Path,
    names: Sequence[str],
    network: FeatureNetwork,
    image_size: int,
    processes: Processes,
    device: torch.device,
) -> Reference:
    """ADM's statistics; features of its images through our network."""
    missing = [name for name in ("mu", "sigma") if name not in names]
    if missing:
        raise ValueError(
            f"evaluation.reference={path} has no {' and '.join(missing)}: it isn't a reference of "
            "ADM's evaluation suite (VIRTUAL_imagenet256_labeled.npz, say)."
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
        pictures = ArchivedPictures(path)
        if pictures.shape[1:3] != (image_size, image_size):
            height, width = pictures.shape[1:3]
            raise ValueError(
                f"evaluation.reference={path} holds images of {height}x{width} pixels, and the "
                f"generated ones have {image_size}x{image_size}: take the reference of that size."
            )
        own = _cached(pictures, str(path), network, image_size, processes, device)
        points = own.points
        distance = frechet_distance(own.mean, own.covariance, found["mu"], found["sigma"])
        log.info("reference: FID %.2f between its %d images and its mu", distance, len(pictures))
        if distance > SUSPICIOUS_DISTANCE:
            log.warning(
                "evaluation.reference=%s: its images are %.1f away from its statistics; were those "
                "made with another network?",
                path,
                distance,
            )
    else:
        log.warning("evaluation.reference=%s has no images: no precision, recall, KID", path)
    return Reference(
        found["mu"],
        found["sigma"],
        found.get("mu_s"),
        found.get("sigma_s"),
        points,
        {"network": network.identity, "image_size": image_size, "source": sha256(path)},
    )
