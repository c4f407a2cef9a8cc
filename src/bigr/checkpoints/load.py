"""Loading models from checkpoints of any supported layout."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.read import Checkpoint, read_checkpoint
from bigr.checkpoints.released import (
    HEAD_DIM,
    infer_autoencoder_config,
    infer_discriminator_config,
    infer_generator_config,
)
from bigr.data.files import is_verifying
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig, BinaryAutoencoderConfig
from bigr.models.discriminator import PatchDiscriminator
from bigr.models.noise_schedule import UnknownScheduleError
from bigr.models.without_values import without_values
from bigr.schema import from_dict

Path = str | os.PathLike[str]
Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)
SHOWN = 3
LONGEST_CONFIG = 600
"""Number of characters of a configuration in a message; a file may contain a longer one."""
POSITIONS = "transformer.position_table"
WEIGHT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_generator(
    path: Path, *, config: BiGRConfig | None = None, adapter: Path | None = None
) -> BiGR:
    """Load a generator in float32, on the CPU, in evaluation mode.

    Args:
        path: a released ``.pt`` file (its "ema" weights), a ``.safetensors`` file or Lightning
            ``.ckpt`` of this project, a directory with a ``generator.safetensors``, or the
            directory of a LoRA adapter, which stands for the generator that it changes.
        config: replaces the configuration that the file contains or that follows from its shapes.
            Released files do not contain the number of heads; heads of width 64 are assumed.
        adapter: directory of a LoRA adapter that is added to the weights.

    Raises:
        CheckpointError: if the file is missing, damaged, unsafe, of another kind, or does not fit
            the configuration.
    """
    found = read_checkpoint(path, "generator")
    if adapter is not None:
        from bigr.checkpoints.adapters import with_adapter

        found = with_adapter(found, adapter)
    return generator_from(found, config)


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
    return autoencoder_from(read_checkpoint(path, "autoencoder"), config)


def load_discriminator(path: Path) -> PatchDiscriminator | None:
    """Load the discriminator from the file of a B-AE, or return None if it contains none.

    Raises:
        CheckpointError: see :func:`load_generator`.
    """
    return discriminator_from(read_checkpoint(path, "autoencoder"))


def generator_from(found: Checkpoint, config: BiGRConfig | None = None) -> BiGR:
    """Build the generator of a checkpoint that has been read; see :func:`load_generator`."""
    config = generator_config(found) if config is None else config
    model = _build(BiGR, config, found, found.weights)
    names = found.settings.class_names
    if names is not None and len(names) != config.num_classes:
        raise CheckpointError(
            f"{found.path} has {len(names)} class names for a generator of "
            f"{config.num_classes} classes. Copy the file again."
        )
    model.settings = found.settings
    return model


def autoencoder_from(
    found: Checkpoint, config: BinaryAutoencoderConfig | None = None
) -> BinaryAutoencoder:
    """Build the B-AE of a checkpoint that has been read; see :func:`load_autoencoder`."""
    config = autoencoder_config(found) if config is None else config
    return _build(BinaryAutoencoder, config, found, found.weights)


def discriminator_from(found: Checkpoint) -> PatchDiscriminator | None:
    """Build the discriminator of a checkpoint of a B-AE; see :func:`load_discriminator`."""
    if not found.discriminator:
        return None
    config = _inferred(infer_discriminator_config, found.discriminator, found)
    return _build(PatchDiscriminator, config, found, found.discriminator)


def check_pair(generator: BiGR, autoencoder: BinaryAutoencoder) -> None:
    """Raise ``CheckpointError`` unless ``autoencoder`` can decode the codes of ``generator``.

    If the generator remembers its B-AE, the checksums of the weights are compared as well, unless
    the environment variable ``BIGR_VERIFY`` is 0.
    """
    for name, unit in (("code_dim", "bits per token"), ("grid_size", "tokens per side")):
        ours, theirs = getattr(generator.config, name), getattr(autoencoder.config, name)
        if ours != theirs:
            raise CheckpointError(
                f"The generator makes codes with {name} {ours} ({unit}), but the B-AE decodes "
                f"{name} {theirs}: use the B-AE that the generator was trained with."
            )
    expected = generator.settings.autoencoder_sha256
    if expected is not None and is_verifying() and weights_sha256(autoencoder) != expected:
        raise CheckpointError(
            "The generator was trained on the codes of another B-AE of the same size (the "
            "checksums of the weights differ), so its images would be meaningless: use the B-AE "
            "that it was trained with. BIGR_VERIFY=0 skips this comparison."
        )


def generator_config(found: Checkpoint) -> BiGRConfig:
    """Return the configuration that the checkpoint contains or that follows from its shapes."""
    config = _config(BiGRConfig, infer_generator_config, found)
    if found.config is None and config.dim % HEAD_DIM:
        raise CheckpointError(
            f"{found.path} does not contain the number of attention heads, and it cannot be "
            f"inferred, because the width {config.dim} is not a multiple of {HEAD_DIM}, the width "
            "of a head in released models: pass the configuration as config=."
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
        except UnknownScheduleError as error:  # another configuration would not help
            raise CheckpointError(f"{found.path} cannot be loaded: {error}") from error
        except (ValueError, TypeError) as error:
            raise CheckpointError(
                f"The configuration in {found.path} is not valid: {error} The file may come from "
                "another version; pass the configuration as config=."
            ) from error
        return config
    return _inferred(infer, found.weights, found)


def _inferred(
    infer: Callable[[Mapping[str, Tensor]], Config],
    weights: Mapping[str, Tensor],
    found: Checkpoint,
) -> Config:
    """Return the configuration that follows from the names and shapes of ``weights``."""
    try:
        return infer(weights)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        reason = f"the tensor {error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"The configuration of the {found.kind} in {found.path} ({found.layout}) cannot "
            f"be inferred from its tensors: {reason}. The file is incomplete; copy it again, or "
            "pass the configuration as config=."
        ) from error


def _build(
    cls: type[Network], config: object, found: Checkpoint, weights: Mapping[str, Tensor]
) -> Network:
    """Build a network and copy weights into it, after comparing everything that can be compared.

    Args:
        cls: class of the network.
        config: its configuration.
        found: the checkpoint, for messages.
        weights: the tensors of the network.
    """
    # 1. A network without values, whose tensors are compared with those of the file.
    problem = _too_large(config, weights)
    if problem is None:
        try:
            with without_values():
                model = cls(config)
            problem = _differences(model.state_dict(), weights)
        except (RuntimeError, OverflowError, TypeError) as error:  # sizes beyond 64 bits
            problem = f"it cannot be built ({str(error).splitlines()[0]})"
    if problem is not None:
        raise CheckpointError(
            f"{found.path} ({found.layout}) does not fit a {cls.__name__} with "
            f"{textwrap.shorten(str(config), LONGEST_CONFIG)}: {problem}. Pass the configuration "
            "that it was trained with as config=, or use another file."
        )
    # 2. Copy the weights; buffers that are not saved are computed again.
    model.to_empty(device="cpu")
    model.load_state_dict(weights)
    if isinstance(model, BiGR):
        model.transformer.reset_buffers()
    # 3. Now that they are float32, none may be infinite.
    for name, tensor in model.state_dict().items():
        if not is_finite(tensor):
            raise CheckpointError(
                f"The tensor {name} in {found.path} contains values that are NaN or infinite, so "
                "every result would be meaningless. Use an earlier checkpoint of this model."
            )
    return model.eval()


def _too_large(config: object, weights: Mapping[str, Tensor]) -> str | None:
    """Return how a network would be larger than the tensors of its file, or None if it would not.

    Even without values, building a network takes time for its blocks, each of which has tensors,
    and memory for the rotary embedding of the token grid, which is smaller than the position table.
    """
    if isinstance(config, BiGRConfig):
        num_blocks = config.num_layers + config.denoiser_blocks
        needed = (1, config.seq_len, config.dim)
        table = weights.get(POSITIONS)
        if table is None or table.shape != needed:
            there = "missing" if table is None else f"{tuple(table.shape)} instead of {needed}"
            return f"{POSITIONS} is {there}"
    elif isinstance(config, BinaryAutoencoderConfig):
        num_blocks = len(config.channel_multipliers) * config.res_blocks
    else:
        num_blocks = config.num_layers  # type: ignore[attr-defined]  # of a discriminator
    if num_blocks > len(weights):
        return f"it has {num_blocks} blocks, but there are only {len(weights)} tensors"
    return None


def _differences(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    """Compare the names, shapes and types of tensors; return all differences in words, or None."""
    both = [(name, tensor, weights[name]) for name, tensor in expected.items() if name in weights]
    differing = {
        "missing": [name for name in expected if name not in weights],
        "unknown": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name} is {tuple(theirs.shape)} instead of {tuple(ours.shape)}"
            for name, ours, theirs in both
            if theirs.shape != ours.shape
        ],
        "of a type that weights cannot have": [
            f"{name} is {theirs.dtype}"
            for name, ours, theirs in both
            if theirs.dtype not in (WEIGHT_TYPES if ours.is_floating_point() else (ours.dtype,))
        ],
    }
    parts = []
    for what, names in differing.items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})")
    return f"of its tensors, {'; '.join(parts)}" if parts else None


def is_finite(tensor: Tensor) -> bool:
    """Return whether no value of a tensor is NaN or infinite, in one pass without a copy."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    smallest, largest = tensor.aminmax()  # NaN if any value is
    return math.isfinite(smallest) and math.isfinite(largest)
