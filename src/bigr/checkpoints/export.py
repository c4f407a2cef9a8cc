"""Saving models in the released layouts, to be loaded by the released code."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch

from bigr.checkpoints.errors import saving
from bigr.checkpoints.native import CONFIG_TENSOR, SETTINGS
from bigr.checkpoints.released import (
    autoencoder_from_released,
    autoencoder_to_released,
    discriminator_to_released,
    generator_from_released,
    generator_to_released,
    infer_autoencoder_config,
    infer_generator_config,
)
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.discriminator import PatchDiscriminator
from bigr.models.model_settings import UNKNOWN


def save_released_generator(model: BiGR, path: str | os.PathLike[str]) -> Path:
    """Write the weights of a generator under the names of the released trainer.

    The file is ``{"ema": weights}``. The entry "bigr", which the released code does not read,
    contains the configuration if it does not follow from the shapes of the weights, and the
    settings if there are any.

    Raises:
        ValueError: if the model has a noise schedule that the released code lacks, a softmax or
            causal attention.
        SaveError: if the file cannot be written; an existing one is left as it was.
    """
    if model.config.noise_schedule != "linear":
        raise ValueError(
            "the released code supports only the linear noise schedule, but this generator has "
            f"noise_schedule={model.config.noise_schedule}: save it as .safetensors instead."
        )
    for name, value in (("objective", "categorical"), ("attention", "causal")):
        if getattr(model.config, name) == value:
            raise ValueError(
                f"the released layout has no place for a generator with {name}={value}: save it as "
                ".safetensors instead."
            )
    weights = generator_to_released(model.state_dict(), model.config.num_diffusion_steps)
    content: dict[str, Any] = {"ema": weights}
    is_inferred = infer_generator_config(generator_from_released(weights)) == model.config
    if not is_inferred or model.settings != UNKNOWN:
        config = dataclasses.asdict(model.config)
        content["bigr"] = {"kind": "generator", "config": config}
        if model.settings != UNKNOWN:
            content["bigr"][SETTINGS] = model.settings.to_json()
    return _save(content, path)


def save_released_autoencoder(
    model: BinaryAutoencoder,
    path: str | os.PathLike[str],
    *,
    discriminator: PatchDiscriminator | None = None,
) -> Path:
    """Write the weights of a B-AE and its discriminator as one dictionary of tensors.

    Raises:
        SaveError: if the file cannot be written; an existing one is left as it was.
    """
    weights = autoencoder_to_released(model.state_dict())
    content = {f"ae.{name}": tensor for name, tensor in weights.items()}
    if discriminator is not None:
        named = discriminator_to_released(discriminator.state_dict()).items()
        content.update({f"disc.{name}": tensor for name, tensor in named})
    if infer_autoencoder_config(autoencoder_from_released(weights)) != model.config:
        text = json.dumps(dataclasses.asdict(model.config)).encode()
        content[CONFIG_TENSOR] = torch.tensor(list(text), dtype=torch.uint8)
    return _save(content, path)


def _save(content: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    # PyTorch would hide the error of a full disk if it opened the file itself.
    with saving(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)
    return Path(path)
