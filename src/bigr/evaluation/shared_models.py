"""What the jobs of a sweep share: weights are read once per process."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from bigr.evaluation.references import load_reference
from bigr.inference.devices import load_models
from bigr.inference.generate import Models
from bigr.metrics.feature_networks import FeatureNetwork, load_network
from bigr.metrics.statistics import Reference

FileState = tuple[tuple[str, int, int], ...]

_references: dict[tuple[Any, ...], Reference] = {}


def cached_models(generator: str, autoencoder: str, device: str) -> Models:
    """:func:`load_models`, once for the same files in the same state."""
    return _models(generator, autoencoder, device, file_state(generator), file_state(autoencoder))


def file_state(path: str) -> FileState:
    """Names, sizes and times of a file, or of all in a folder."""
    place = Path(path).expanduser()
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in found)


@functools.lru_cache(maxsize=1)
def _models(generator: str, autoencoder: str, device: str, *_states: object) -> Models:
    return load_models(generator, autoencoder, device)


@functools.lru_cache(maxsize=2)
def cached_network(name: str, weights: str | None) -> FeatureNetwork:
    """:func:`load_network`, once."""
    return load_network(name, weights)


def cached_reference(
    where: str, network: FeatureNetwork, image_size: int, split: str, **more: Any
) -> Reference:
    """:func:`load_reference`, once for the same file or folder in the same state."""
    state = file_state(where) if Path(where).expanduser().exists() else ()
    key = (where, network.identity, image_size, split, state)
    if key not in _references:
        _references.clear()
        _references[key] = load_reference(where, network, image_size, split=split, **more)
    return _references[key]
