"""The format of this project: safetensors files with the configuration in the metadata."""

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
"""Prefix of the names of a discriminator's tensors in the file of a B-AE."""
CONFIG_TENSOR = "bigr.config"
"""Tensor with the configuration as JSON bytes, in released layouts that would need it."""


def save_generator(model: BiGR, path: str | os.PathLike[str]) -> Path:
    """Write the weights and configuration of a generator; return the path."""
    return _save(model.state_dict(), {"kind": "generator", "config": model.config}, path)


def save_autoencoder(
    model: BinaryAutoencoder,
    path: str | os.PathLike[str],
    *,
    discriminator: PatchDiscriminator | None = None,
) -> Path:
    """Write the weights and configuration of a B-AE, and of its discriminator if it is given."""
    tensors = dict(model.state_dict())
    about: dict[str, Any] = {"kind": "autoencoder", "config": model.config}
    if discriminator is not None:
        named = discriminator.state_dict().items()
        tensors.update({DISCRIMINATOR + name: tensor for name, tensor in named})
        about["discriminator_config"] = discriminator.config
    return _save(tensors, about, path)


def _save(tensors: dict[str, Tensor], about: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    from safetensors.torch import save_file

    metadata = {"format": FORMAT, "version": VERSION}
    for key, value in about.items():
        is_text = isinstance(value, str)
        metadata[key] = value if is_text else json.dumps(dataclasses.asdict(value))
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(Path(path)) as temporary:
        save_file(contiguous, temporary, metadata=metadata)
    return Path(path)
