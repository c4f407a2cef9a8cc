"""Loading models from checkpoints of any supported layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.read import Checkpoint, read_checkpoint
from bigr.checkpoints.released import (
    HEAD_DIM,
    infer_autoencoder_config,
    infer_discriminator_config,
    infer_generator_config,
)
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig
from bigr.models.discriminator import PatchDiscriminator
from bigr.schema import from_dict

Path = str | os.PathLike[str]
Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)
SHOWN = 3


def load_generator(path: Path, *, config: BiGRConfig | None = None) -> BiGR:
    """Load a generator in float32, on the CPU, in evaluation mode.

    Args:
        path: a released ``.pt`` file (its "ema" weights), a ``.safetensors`` file or Lightning
            ``.ckpt`` of this project, or a directory with a ``generator.safetensors``.
        config: replaces the configuration that the file contains or that follows from its shapes.
            Released files do not contain the number of heads; heads of width 64 are assumed.

    Raises:
        CheckpointError: if the file is missing, damaged, unsafe, of another kind, or does not fit
            the configuration.
    """
    found = read_checkpoint(path, "generator")
    return _build(BiGR, generator_config(found) if config is None else config, found)


def load_autoencoder(
    path: Path, *, config: BinaryAutoencoderConfig | None = None
) -> BinaryAutoencoder:
    """Load a B-AE in float32, on the CPU, in evaluation mode.

    Args:
        path: a released ``.th`` file, a ``.safetensors`` file or Lightning ``.ckpt`` of this
            project, or a directory with an ``autoencoder.safetensors``.
        config: replaces the configuration that the file contains or that follows from its shapes.

    Raises:
        CheckpointError: see :func:`load_generator`.
    """
    found = read_checkpoint(path, "autoencoder")
    return _build(BinaryAutoencoder, autoencoder_config(found) if config is None else config, found)


def load_discriminator(path: Path) -> PatchDiscriminator | None:
    """Load the discriminator from the file of a B-AE, or return None if it contains none.

    Raises:
        CheckpointError: see :func:`load_generator`.
    """
    found = read_checkpoint(path, "autoencoder")
    if not found.discriminator:
        return None
    config = infer_discriminator_config(found.discriminator)
    return _fill(PatchDiscriminator(config), found.discriminator, found, config)


def check_pair(generator: BiGR, autoencoder: BinaryAutoencoder) -> None:
    """Raise ``CheckpointError`` unless ``autoencoder`` can decode the codes of ``generator``."""
    for name, unit in (("code_dim", "bits per token"), ("grid_size", "tokens per side")):
        ours, theirs = getattr(generator.config, name), getattr(autoencoder.config, name)
        if ours != theirs:
            raise CheckpointError(
                f"The generator makes codes with {name} {ours} ({unit}), but the B-AE decodes "
                f"{name} {theirs}: use the B-AE that the generator was trained with."
            )


def generator_config(found: Checkpoint) -> BiGRConfig:
    """Return the configuration that the checkpoint contains or that follows from its shapes."""
    config = _config(BiGRConfig, infer_generator_config, found)
    if found.config is None and config.dim % HEAD_DIM:
        raise CheckpointError(
            f"{found.path} doesn't say how many attention heads its generator has, and its width "
            f"{config.dim} is not a multiple of {HEAD_DIM}, the width of a head in released "
            "models: give the configuration with config=."
        )
    return config


def autoencoder_config(found: Checkpoint) -> BinaryAutoencoderConfig:
    """Return the configuration that the checkpoint contains or that follows from its shapes."""
    return _config(BinaryAutoencoderConfig, infer_autoencoder_config, found)


def _config(
    cls: type[Config], infer: Callable[[Mapping[str, Tensor]], Config], found: Checkpoint
) -> Config:
    if found.config is not None:
        try:
            config: Config = from_dict(cls, found.config)
        except ValueError as error:
            raise CheckpointError(
                f"The configuration in {found.path} can't be used: {error} The file may come from "
                "another version; give the configuration with config=."
            ) from error
        return config
    try:
        return infer(found.weights)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        reason = f"the tensor {error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"The configuration of the {found.kind} in {found.path} ({found.layout}) does not "
            f"follow from its tensors: {reason}. The file is incomplete; copy it again, or give "
            "the configuration with config=."
        ) from error


def _build(cls: type[Network], config: object, found: Checkpoint) -> Network:
    with torch.device("meta"):
        model = cls(config)
    return _fill(model, found.weights, found, config)


def _fill(
    model: Network, weights: Mapping[str, Tensor], found: Checkpoint, config: object
) -> Network:
    """Copy ``weights`` into ``model`` after comparing all names and shapes."""
    # 1. Compare names and shapes.
    expected = model.state_dict()
    differing = {
        "missing": [name for name in expected if name not in weights],
        "unknown": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name} is {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in weights and weights[name].shape != tensor.shape
        ],
    }
    # 2. Report all differences in one message.
    problems = []
    for what, names in differing.items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            problems.append(f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})")
    if problems:
        raise CheckpointError(
            f"{found.path} ({found.layout}) doesn't fit a {type(model).__name__} with {config}. "
            f"Of its tensors, {'; '.join(problems)}. Give the configuration it was trained with "
            "by config=, or another file."
        )
    # 3. Copy the weights; buffers that are not saved are computed again.
    model.to_empty(device="cpu")
    model.load_state_dict(weights)
    if isinstance(model, BiGR):
        model.transformer.reset_buffers()
    return model.eval()
