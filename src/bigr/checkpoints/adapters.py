"""Files of LoRA adapters, which ``peft`` can read as well.

An adapter is a folder with two files:

- ``adapter_config.json``: the settings of LoRA, and the generator that the adapter changes.
- ``adapter_model.safetensors``: the matrices A and B of each layer, and in full all other tensors
  that differ in the fine-tuned generator, such as a new class table. The metadata contain the
  configuration of the fine-tuned generator, and the checksum of the weights of the original one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bigr.checkpoints.errors import CheckpointError, saving
from bigr.checkpoints.hub import ADAPTER_CONFIG, adapter_in, find_model
from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.lora import MATRICES, LoRAConfig, is_adapter_name, merged, plain_name
from bigr.checkpoints.native import SETTINGS, save_tensors
from bigr.checkpoints.read import (
    Checkpoint,
    parse_config,
    parse_settings,
    read_checkpoint,
    read_safetensors,
)
from bigr.data.files import is_verifying
from bigr.models.bigr import BiGR
from bigr.models.model_settings import UNKNOWN

WEIGHTS_FILE = "adapter_model.safetensors"
KIND = "adapter"
BASE_SHA256 = "base_sha256"
PREFIX = "base_model.model."
"""What ``peft`` writes before the names of tensors."""


def save_adapter(
    model: BiGR,
    folder: str | os.PathLike[str],
    *,
    config: LoRAConfig,
    base: str,
    base_sha256: str,
    also: Collection[str] = (),
) -> Path:
    """Write the adapter of a generator; return the folder.

    Args:
        model: a generator after :func:`add_adapter`.
        folder: created if it does not exist.
        config: the settings of the adapter.
        base: name or path by which the original generator can be found again.
        base_sha256: checksum of its weights.
        also: names of further parameters that differ from those of the original generator.

    Raises:
        SaveError: if a file cannot be written.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        if is_adapter_name(name) or plain_name(name) in also:
            tensors[PREFIX + plain_name(name).replace(".default.", ".")] = tensor
    about = {"kind": KIND, "config": model.config, BASE_SHA256: base_sha256}
    if model.settings != UNKNOWN:
        about[SETTINGS] = model.settings.to_json()
    layers = [match[1] for name in tensors if (match := MATRICES.fullmatch(name))]
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha or config.rank,
        "lora_dropout": config.dropout,
        "target_modules": sorted({layer.removeprefix(PREFIX) for layer in layers}),
        "inference_mode": True,
    }
    target = Path(folder)
    with saving(target / ADAPTER_CONFIG) as file:
        save_tensors(tensors, about, target / WEIGHTS_FILE)
        file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return target


def read_adapted(path: Path, *, verify: bool = True) -> Checkpoint:
    """Read the generator that results from an adapter and the generator that it names.

    Args:
        path: a folder for which :func:`~bigr.checkpoints.hub.adapter_in` finds an adapter.
        verify: see :func:`~bigr.checkpoints.read.read_checkpoint`.

    Raises:
        CheckpointError: if one of the two cannot be used.
    """
    base = _settings(path).get("base_model_name_or_path")
    try:
        file = find_model(str(base), "generator")
        found = read_checkpoint(file, "generator", verify=verify)
    except CheckpointError as error:
        raise CheckpointError(
            f"The generator {base}, which the adapter {path} changes, cannot be used: {error} In "
            "Python, adapter= takes the adapter, and the first argument its generator."
        ) from error
    return with_adapter(found, path, verify=verify)


def with_adapter(
    found: Checkpoint, folder: str | os.PathLike[str], *, verify: bool = True
) -> Checkpoint:
    """Return a generator to whose weights an adapter has been added.

    Args:
        found: the original generator.
        folder: folder of the adapter, or of the run that trained it.
        verify: whether to compare checksums, also that of the original weights.

    Raises:
        CheckpointError: if the adapter is missing or damaged, or belongs to another generator.
    """
    settings, verify = _settings(folder), verify and is_verifying()
    file = Path(adapter_in(Path(folder).expanduser()) or folder) / WEIGHTS_FILE
    tensors, about = read_safetensors(file, verify=verify)
    if about.get("kind") != KIND:
        raise CheckpointError(
            f"{file} was not written by this project, so that the sizes of its generator are not "
            "known. Use an adapter of a run of bigr.train."
        )
    if verify and about.get(BASE_SHA256) != weights_sha256(found.weights):
        raise CheckpointError(
            f"The adapter {folder} does not belong to the generator {found.path} (the "
            "checksums of the weights differ): use the generator that it was trained with, "
            f"{settings.get('base_model_name_or_path')}."
        )
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise CheckpointError(f"{folder} is damaged: its rank is {rank} and its alpha {alpha}.")
    changed = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    try:
        weights = merged({**found.weights, **changed}, alpha / rank)
    except ValueError as error:
        raise CheckpointError(f"{folder} does not fit {found.path}: {error}") from error
    return dataclasses.replace(
        found,
        path=Path(folder),
        layout="a LoRA adapter",
        weights=weights,
        config=parse_config(file, about.get("config", "")),
        settings=parse_settings(file, about),
    )


def _settings(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of ``adapter_config.json``."""
    place = adapter_in(Path(folder).expanduser())
    if place is None:
        raise CheckpointError(
            f"{folder} is not the folder of an adapter: there is no {ADAPTER_CONFIG} in it."
        )
    try:
        content = json.loads((place / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{place / ADAPTER_CONFIG} cannot be read: {error}") from error
    unsupported = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern")
    if not isinstance(content, dict) or content.get("peft_type") != "LORA":
        raise CheckpointError(f"{place / ADAPTER_CONFIG} does not describe a LoRA adapter.")
    used = [name for name in unsupported if content.get(name)]
    if used:
        raise CheckpointError(f"{place / ADAPTER_CONFIG}: {used[0]} is not supported.")
    return content
