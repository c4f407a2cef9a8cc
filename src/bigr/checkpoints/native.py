"""The format of this project: safetensors files with the configuration in the metadata.

The metadata also contains a SHA-256 checksum of everything else in the file. Files of earlier
versions have none, and files of other projects may have none; they are read without this check.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bigr.checkpoints.errors import saving
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.discriminator import PatchDiscriminator
from bigr.models.model_settings import UNKNOWN

FORMAT = "bigr"
VERSION = "1"
DISCRIMINATOR = "discriminator."
"""Prefix of the names of a discriminator's tensors in the file of a B-AE."""
CONFIG_TENSOR = "bigr.config"
"""Tensor with the configuration as JSON bytes, if the shapes of a released layout lack it."""
SETTINGS = "settings"
"""Key of the metadata, and of the entry "bigr" of PyTorch files, with the settings as JSON text."""
CHECKSUM = "bigr.sha256"
"""Key of the metadata with the checksum of everything else."""


def save_generator(model: BiGR, path: str | os.PathLike[str]) -> Path:
    """Write the weights, configuration and settings of a generator; return the path.

    Raises:
        SaveError: if the file cannot be written; an existing one is left as it was.
    """
    about: dict[str, Any] = {"kind": "generator", "config": model.config}
    if model.settings != UNKNOWN:
        about[SETTINGS] = model.settings.to_json()
    return save_tensors(model.state_dict(), about, path)


def save_autoencoder(
    model: BinaryAutoencoder,
    path: str | os.PathLike[str],
    *,
    discriminator: PatchDiscriminator | None = None,
) -> Path:
    """Write the weights and configuration of a B-AE, and of its discriminator if it is given.

    Raises:
        SaveError: if the file cannot be written; an existing one is left as it was.
    """
    tensors = dict(model.state_dict())
    about: dict[str, Any] = {"kind": "autoencoder", "config": model.config}
    if discriminator is not None:
        named = discriminator.state_dict().items()
        tensors.update({DISCRIMINATOR + name: tensor for name, tensor in named})
        about["discriminator_config"] = discriminator.config
    return save_tensors(tensors, about, path)


def content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Compute the SHA-256 checksum of the content of a safetensors file.

    It covers the names, types, shapes and bytes of all tensors, and the metadata except for the
    checksum itself. It does not depend on the order in which the file stores them.

    Args:
        tensors: contiguous tensors on the CPU, by name.
        metadata: the metadata of the file.
    """
    names = sorted(tensors)
    about = {key: value for key, value in metadata.items() if key != CHECKSUM}
    layout = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in names]
    digest = hashlib.sha256(json.dumps([about, layout], sort_keys=True).encode())
    for name in names:
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_tensors(
    tensors: Mapping[str, Tensor], about: Mapping[str, Any], path: str | os.PathLike[str]
) -> Path:
    """Write tensors with metadata and a checksum of everything; return the path.

    Args:
        tensors: tensors by name, on any device.
        about: entries of the metadata: text, or dataclasses, which become JSON.
        path: path of the file.

    Raises:
        SaveError: if the file cannot be written; an existing one is left as it was.
    """
    from safetensors.torch import save_file

    metadata = {"format": FORMAT, "version": VERSION}
    for key, value in about.items():
        is_text = isinstance(value, str)
        metadata[key] = value if is_text else json.dumps(dataclasses.asdict(value))
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata[CHECKSUM] = content_sha256(contiguous, metadata)
    with saving(path) as temporary:
        save_file(contiguous, temporary, metadata=metadata)
    return Path(path)
