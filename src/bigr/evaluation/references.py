"""Statistics of real images: where they come from, and whether they fit.

A reference is ADM's ``.npz`` (``mu``, ``sigma``, ``mu_s``, ``sigma_s`` and images ``arr_0``), a
file that was written here (the same names, so that ADM's suite reads it, with an identity and
checksums), a folder of images, or the held-out digits. Statistics are only used if they are finite,
symmetric and positive semi-definite.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from bigr.data.array_files import (
    ABOUT,
    check_archive,
    npz_names,
    read_npz,
)
from bigr.data.files import sha256
from bigr.data.sealed_json import DamagedFileError
from bigr.evaluation.computed_references import KEY, compute_reference
from bigr.evaluation.evaluator import file_state
from bigr.evaluation.reference_files import PAIRS, read_reference, reference_from
from bigr.evaluation.stored_images import (
    ArchivedImages,
    StoredImages,
    find_images,
    whole_split,
)
from bigr.inference.processes import Processes
from bigr.metrics.features import FeatureNetwork
from bigr.metrics.frechet import frechet_distance
from bigr.metrics.statistics import Reference

log = logging.getLogger(__name__)

SUSPICIOUS_DISTANCE = 15.0
"""FID between the images of an ADM file and its statistics; 10,000 matching ones give 2 to 3."""

_references: dict[tuple[Any, ...], Reference] = {}


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
        where: ADM's ``.npz``, a file that was written here, or images as in
            :func:`bigr.evaluation.stored_images.find_images`.
        network: defines the feature space.
        image_size: side of the generated images.
        split: split of a folder.
        processes: the processes that share the work.
        device: device of the network.

    Raises:
        ValueError: if there is no such file or folder, it is damaged, or it was made with another
            resolution, network or number of features.
    """
    path = Path(where).expanduser()
    try:
        is_archive = path.suffix == ".npz" and path.exists() and not path.is_dir()
        names = npz_names(path) if is_archive else []
        # Only Inception's statistics can be compared with those in a file of ADM's suite.
        has_statistics = not {"mu", "sigma"}.isdisjoint(names) and not network.prefix
        if (ABOUT in names or has_statistics) and split != whole_split(split):
            raise ValueError(
                f"evaluation.reference_split={split} needs images, but {KEY}={where} contains "
                f"statistics: set evaluation.reference_split={whole_split(split)}, or give images."
            )
        if ABOUT in names:
            reference = read_reference(path, needs_checksum=False)
            _check_origin(reference, path, network, image_size)
            _check_sizes(reference, path, network, image_size, device)
            return reference
        if is_archive and ("arr_0" not in names or has_statistics):
            return _load_adm(path, network, image_size, processes, device)
        images = find_images(where, KEY, image_size=image_size, split=split)
    except DamagedFileError as error:
        raise ValueError(f"{KEY}: {error}. Copy the file again, or compute it again.") from error
    return compute_reference(images, where, network, image_size, processes, device)


def reference_images(
    reference: Reference, where: str, image_size: int, *, split: str
) -> StoredImages | None:
    """Return the images of a reference, whose features are its points; None if it has no images."""
    path = Path(where).expanduser()
    is_file = path.exists() and not path.is_dir()
    if reference.points is None or (is_file and "arr_0" not in npz_names(path)):
        return None
    return find_images(where, KEY, image_size=image_size, split=split)


def check_count(reference: Reference, where: str, count: int | None) -> None:
    """Raise ``ValueError`` unless a reference was made of ``count`` images; None accepts any."""
    made = reference.identity.get("count")
    if count not in (None, made):
        known = "an unknown number of" if made is None else f"{made:,}"
        raise ValueError(
            f"evaluation.reference={where} was made of {known} images, but "
            f"evaluation.reference_count={count:,}: choose another reference."
        )


def _check_origin(
    reference: Reference, path: Path, network: FeatureNetwork, image_size: int
) -> None:
    for name, ours in (("image_size", image_size), ("network", network.identity)):
        theirs = reference.identity.get(name)
        if theirs != ours:
            raise ValueError(
                f"evaluation.reference={path} was made with {name} {theirs}, but this evaluation "
                f"has {ours}: scores computed with it would be meaningless."
            )


def _check_sizes(
    reference: Reference, path: Path, network: FeatureNetwork, image_size: int, device: torch.device
) -> None:
    """Compare the numbers of features with those of the network."""
    black = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device)
    features = network(black)
    pairs = {"mu": (reference.mean, features.pool)}
    if reference.spatial_mean is not None and features.spatial is not None:
        pairs["mu_s"] = (reference.spatial_mean, features.spatial)
    for name, (mean, found) in pairs.items():
        if len(mean) != found.shape[1]:
            raise ValueError(
                f"evaluation.reference={path} has {len(mean)} features ({name}), and the network "
                f"{network.title} has {found.shape[1]}: they come from different networks."
            )


def _load_adm(
    path: Path,
    network: FeatureNetwork,
    image_size: int,
    processes: Processes,
    device: torch.device,
) -> Reference:
    """Return ADM's statistics, with the features of its images in our network."""
    names = npz_names(path)
    missing = [name for name in ("mu", "sigma") if name not in names]
    if missing:
        raise ValueError(
            f"evaluation.reference={path} has no {' and '.join(missing)}: it is not a reference "
            "of ADM's evaluation suite, such as VIRTUAL_imagenet256_labeled.npz."
        )
    if network.prefix:
        raise ValueError(
            f"evaluation.reference={path} contains statistics of Inception's features: use "
            "evaluation.network=inception, or another reference."
        )
    check_archive(path)
    found = reference_from(path, read_npz(path, [*PAIRS, *PAIRS.values()]), {})
    _check_sizes(found, path, network, image_size, device)
    points = None
    if "arr_0" in names:
        images = ArchivedImages(path)
        if images.shape[1:3] != (image_size, image_size):
            height, width = images.shape[1:3]
            raise ValueError(
                f"evaluation.reference={path} contains images of {height}x{width} pixels, but the "
                f"generated ones have {image_size}x{image_size}: use the reference for that size."
            )
        own = compute_reference(images, str(path), network, image_size, processes, device)
        points = own.points
        distance = frechet_distance(own.mean, own.covariance, found.mean, found.covariance)
        log.info(
            "reference: FID %.2f between its %d images and its own statistics",
            distance,
            len(images),
        )
        if distance > SUSPICIOUS_DISTANCE:
            log.warning(
                "evaluation.reference=%s: the FID between its images and its statistics is %.1f; "
                "were the statistics made with another network?",
                path,
                distance,
            )
    else:
        log.warning(
            "evaluation.reference=%s contains no images, so precision, recall and KID are omitted",
            path,
        )
    identity = {"network": network.identity, "image_size": image_size, "source": sha256(path)}
    return dataclasses.replace(found, points=points, identity=identity)
