"""Checkpoints to models."""

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
from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig, from_dict
from bigr.models.discriminator import PatchDiscriminator

Path = str | os.PathLike[str]
Network = TypeVar("Network", bound=nn.Module)
SHOWN = 3


def load_generator(path: Path, *, config: BiGRConfig | None = None) -> BiGR:
    """Load a generator: float32, on the CPU, in evaluation mode.

    Args:
        path: a released ``.pt`` (its "ema" weights), a ``.safetensors`` file or Lightning
            ``.ckpt`` of this project, or a directory with a ``generator.safetensors``.
        config: replaces the sizes that the file states, or that its shapes imply. A released
            file doesn't tell the number of heads; they are taken as 64 wide.

    Raises:
        CheckpointError: if the file is missing, broken, unsafe, something else, or doesn't fit.
    """
    found = read_checkpoint(path, "generator")
    return _build(BiGR, generator_config(found) if config is None else config, found)


def load_autoencoder(
    path: Path, *, config: BinaryAutoencoderConfig | None = None
) -> BinaryAutoencoder:
    """Load a B-AE: float32, on the CPU, in evaluation mode.

    Args:
        path: a released ``.th``, a ``.safetensors`` file or Lightning ``.ckpt`` of this project,
            or a directory with an ``autoencoder.safetensors``.
        config: replaces the sizes that the file states, or that its shapes imply.

    Raises:
        CheckpointError: if the file is missing, broken, unsafe, something else, or doesn't fit.
    """
    found = read_checkpoint(path, "autoencoder")
    sizes = autoencoder_config(found) if config is None else config
    return _build(BinaryAutoencoder, sizes, found)


def load_discriminator(path: Path) -> PatchDiscriminator | None:
    """The discriminator beside the B-AE in ``path``, or None if there is none.

    Raises:
        CheckpointError: as :func:`load_autoencoder`.
    """
    found = read_checkpoint(path, "autoencoder")
    if not found.discriminator:
        return None
    sizes = infer_discriminator_config(found.discriminator)
    return _fill(PatchDiscriminator(sizes), found.discriminator, found, sizes)


def check_pair(generator: BiGR, autoencoder: BinaryAutoencoder) -> None:
    """Raise ``CheckpointError`` unless ``autoencoder`` can decode what ``generator`` makes."""
    for name, unit in (("code_dim", "bits per token"), ("grid_size", "tokens per side")):
        ours, theirs = getattr(generator.config, name), getattr(autoencoder.config, name)
        if ours != theirs:
            raise CheckpointError(
                f"The generator makes codes with {name} {ours} ({unit}), but the B-AE decodes "
                f"{name} {theirs}: use the B-AE that the generator was trained with."
            )


def generator_config(found: Checkpoint) -> BiGRConfig:
    """Sizes that the checkpoint states, or that its shapes imply."""
    if found.config is not None:
        return _stated(BiGRConfig, found)
    config = _inferred(infer_generator_config, found)
    if config.dim % HEAD_DIM:
        raise CheckpointError(
            f"{found.path} doesn't say how many attention heads its generator has, and its width "
            f"{config.dim} is no multiple of the released models' {HEAD_DIM} per head: give the "
            "sizes with config=."
        )
    return config


def autoencoder_config(found: Checkpoint) -> BinaryAutoencoderConfig:
    """Sizes that the checkpoint states, or that its shapes imply."""
    if found.config is not None:
        return _stated(BinaryAutoencoderConfig, found)
    return _inferred(infer_autoencoder_config, found)


C = TypeVar("C")


def _stated(cls: type[C], found: Checkpoint) -> C:
    try:
        return from_dict(cls, found.config or {})
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"The sizes inside {found.path} can't be used: {error} It may come from another "
            "version; give the sizes with config=."
        ) from error


def _inferred(infer: Callable[[Mapping[str, Tensor]], C], found: Checkpoint) -> C:
    try:
        return infer(found.weights)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        what = f"the tensor {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"The sizes of the {found.kind} in {found.path} ({found.layout}) can't be told from "
            f"its tensors: {what} is missing or odd. The file is incomplete; copy it again, or "
            "give the sizes with config=."
        ) from error


def _build(cls: type[Network], config: object, found: Checkpoint) -> Network:
    with torch.device("meta"):
        model = cls(config)
    return _fill(model, found.weights, found, config)


def _fill(
    model: Network, weights: Mapping[str, Tensor], found: Checkpoint, config: object
) -> Network:
    """Copy ``weights`` into ``model``, after everything was compared."""
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights]
    extra = [name for name in weights if name not in expected]
    other = [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    problems = []
    for names, what in ((missing, "missing"), (extra, "unknown"), (other, "of another shape")):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            problems.append(f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})")
    if problems:
        raise CheckpointError(
            f"{found.path} ({found.layout}) doesn't fit a {type(model).__name__} of these sizes: "
            f"{config}. Of its tensors, {'; '.join(problems)}. Give the sizes it was trained with "
            "by config=, or another file."
        )
    model.to_empty(device="cpu")
    model.load_state_dict(weights)
    if isinstance(model, BiGR):
        model.transformer.reset_buffers()
    return model.eval()
