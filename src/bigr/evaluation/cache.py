"""What the jobs of a sweep share: weights are read once per process."""

from __future__ import annotations

import functools
from pathlib import Path

from bigr.evaluation.devices import load_models
from bigr.evaluation.generate import Models
from bigr.metrics.networks import FeatureNetwork, load_network


def cached_models(generator: str, autoencoder: str, device: str) -> Models:
    """:func:`load_models`, once for the same files in the same state."""
    return _models(generator, autoencoder, device, _state(generator), _state(autoencoder))


def _state(path: str) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a file, or of all in a folder."""
    place = Path(path).expanduser()
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    found = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in found)


@functools.lru_cache(maxsize=1)
def _models(generator: str, autoencoder: str, device: str, *_state: object) -> Models:
    return load_models(generator, autoencoder, device)


@functools.lru_cache(maxsize=2)
def cached_network(name: str, weights: str | None) -> FeatureNetwork:
    """:func:`load_network`, once."""
    return load_network(name, weights)
