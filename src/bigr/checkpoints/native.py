"""The project's own format: safetensors, with the configuration in the metadata."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from bigr.data.files import replacing
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.discriminator import PatchDiscriminator

FORMAT = "bigr"
VERSION = "1"
DISCRIMINATOR = "discriminator."
"""Prefix of the discriminator's tensors beside a B-AE's."""
CONFIG_TENSOR = "bigr.config"
"""In a released layout: the sizes as JSON bytes, where the shapes alone would mislead."""


def save_generator(model: BiGR, path: str | os.PathLike[str]) -> Path:
    """Write a generator's weights and configuration."""
    return _save(model.state_dict(), {"kind": "generator", "config": model.config}, path)


def save_autoencoder(
    model: BinaryAutoencoder,
    path: str | os.PathLike[str],
    *,
    discriminator: PatchDiscriminator | None = None,
) -> Path:
    """Write a B-AE's weights and configuration, with its discriminator if there is one."""
    tensors = dict(model.state_dict())
    about: dict[str, Any] = {"kind": "autoencoder", "config": model.config}
    if discriminator is not None:
        named = discriminator.state_dict().items()
        tensors.update({DISCRIMINATOR + name: tensor for name, tensor in named})
        about["discriminator_config"] = discriminator.config
    return _save(tensors, about, path)


def _save(tensors: dict[str, Tensor], about: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write to a temporary name and move into place: a half-written file is never seen."""
    from safetensors.torch import save_file

    target = Path(path)
    metadata = {"format": FORMAT, "version": VERSION}
    for key, value in about.items():
        is_text = isinstance(value, str)
        metadata[key] = value if is_text else json.dumps(dataclasses.asdict(value))
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(target) as temporary:
        save_file(contiguous, temporary, metadata=metadata)
    return target
