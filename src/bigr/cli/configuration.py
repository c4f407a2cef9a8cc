"""The functions that configuration files may use, and how they become plain values."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bigr.cli.signature_source import register_signatures
from bigr.presets import config_dir as config_dir


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the key and the fix."""


def register_resolvers() -> None:
    """Define the functions ``${bigr.…}`` of the configuration; may be called repeatedly.

    Also lets Hydra read our YAML files through :mod:`bigr.cli.signature_source`.
    """
    register_signatures()
    resolvers: dict[str, Callable[..., Any]] = {
        "bigr.grid_size": _grid_size,
        "bigr.num_classes": _num_classes,
        "bigr.product": lambda a, b: float(a) * float(b),
        "bigr.run_id": lambda folder: hashlib.sha256(str(folder).encode()).hexdigest()[:12],
        "bigr.wandb_offline": lambda: os.environ.get("WANDB_MODE") != "online",
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(name, function, replace=True)


def _grid_size(autoencoder: DictConfig) -> int:
    """Return the tokens per side of an autoencoder's codes."""
    return int(autoencoder.image_size) // 2 ** (len(autoencoder.channel_multipliers) - 1)


def _num_classes(root: str | None, default: int) -> int:
    """Return the classes of a store of codes or of class folders, or else ``default``."""
    if root is None:
        return default
    folder = Path(str(root)).expanduser()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((folder / "manifest.json").read_text())["settings"]["num_classes"])
    from bigr.data.sources.find import count_classes

    return count_classes(folder) or default


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return ``config`` as plain containers without interpolations, as it is saved with a run."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return dict(container)  # type: ignore[arg-type]
