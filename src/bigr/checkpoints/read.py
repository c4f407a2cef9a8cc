"""Reading checkpoint files of any layout, which is recognised by content, not by suffix.

What a file states about itself is not trusted: checksums are compared if there are any (the
CRC-32 of every record of a PyTorch file, the SHA-256 of a file in the format of this project), and
tensors may not be larger than the file. Pickles of PyTorch before 1.6 and the .safetensors files of
other projects have no checksum. With the environment variable ``BIGR_VERIFY=0`` none is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bigr.checkpoints.archives import find_damage
from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.hub import PACKAGED, adapter_in, packaged_models
from bigr.checkpoints.lora import LORA_SCALE, merged
from bigr.checkpoints.native import (
    CHECKSUM,
    CONFIG_TENSOR,
    DISCRIMINATOR,
    FORMAT,
    SETTINGS,
    VERSION,
    content_sha256,
)
from bigr.checkpoints.released import (
    autoencoder_from_released,
    discriminator_from_released,
    generator_from_released,
)
from bigr.data.files import is_verifying
from bigr.models.model_settings import UNKNOWN, ModelSettings

KIND_NAMES = {"generator": "a generator", "autoencoder": "a B-AE"}
READABLE = (
    "a released generator (.pt), a released B-AE (.th), a .safetensors file or a Lightning "
    "checkpoint (.ckpt) of this project"
)
MODULE_PREFIXES = {"generator": "model.", "autoencoder": "autoencoder."}
PICKLE_START = b"\x80"
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
LARGEST_CONFIG = 2**20
"""Number of bytes that the JSON text of a configuration may have in a tensor."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file."""

    path: Path
    layout: str
    """Description of the layout for messages."""
    kind: str
    """``generator`` or ``autoencoder``."""
    weights: dict[str, Tensor]
    """Tensors under our names; tensors with unknown names are included."""
    config: dict[str, Any] | None
    """Saved configuration; None in released files."""
    discriminator: dict[str, Tensor]
    """Tensors of the discriminator under our names; empty if there is none."""
    settings: ModelSettings = UNKNOWN
    """What a generator remembers besides its weights."""


def read_checkpoint(
    path: str | os.PathLike[str], kind: str | None = None, *, verify: bool = True
) -> Checkpoint:
    """Read a checkpoint file.

    Args:
        path: a file, or the directory of a LoRA adapter, which stands for the generator that it
            changes; or, if ``kind`` is given, a directory with a ``{kind}.safetensors``, or the
            name of an installed model such as ``digits``.
        kind: ``generator`` or ``autoencoder``; None accepts both.
        verify: whether to compare the checksums in the file; False if that has just been done.
            The environment variable ``BIGR_VERIFY=0`` turns it off everywhere.

    Raises:
        CheckpointError: if the file can't be read, is damaged or is of another kind.
    """
    place = Path(path).expanduser()
    if str(path) in packaged_models() and not place.exists():
        place = PACKAGED / str(path)
    if kind != "autoencoder" and place.is_dir() and not (place / f"{kind}.safetensors").is_file():
        adapter = adapter_in(place)
        if adapter is not None:
            from bigr.checkpoints.adapters import read_adapted  # which reads with this module

            return read_adapted(adapter, verify=verify)
    file = _find(place, kind)
    found = _read(file, verify and is_verifying())
    if kind not in (None, found.kind):
        raise CheckpointError(
            f"{file} is {KIND_NAMES[found.kind]} ({found.layout}), but {KIND_NAMES[str(kind)]} is "
            f"needed here: give the file of the {kind}."
        )
    _check_extent(file, found.weights)
    _check_extent(file, found.discriminator)
    return found


def _find(path: Path, kind: str | None) -> Path:
    """Return the file at ``path``, after checks of its existence and its first bytes."""
    # 1. A directory stands for the file in it.
    if path.is_dir():
        if kind is None:
            raise CheckpointError(f"{path} is a directory: give the path of a file in it.")
        file = path / f"{kind}.safetensors"
        if file.is_file():
            return file
        found = sorted(
            str(item.relative_to(path))
            for suffix in ("safetensors", "ckpt", "pt", "th")
            for item in path.rglob(f"*.{suffix}")
        )
        listing = f"it contains {', '.join(found[:5])}" if found else "it has no checkpoints"
        raise CheckpointError(
            f"The directory {path} has no {kind}.safetensors; {listing}. Give the path of a file."
        )
    # 2. The file exists and can be read.
    if not path.exists():
        raise CheckpointError(
            f"There is no checkpoint {path} (relative to {Path.cwd()}): check the path."
        )
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file. Supported are {READABLE}.")
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}.") from error
    # 3. It is not one of the files that failed downloads leave.
    if not head:
        raise CheckpointError(f"{path} is empty. Download or copy it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer without the weights. Run `git lfs pull` in its "
            "repository, or download the file itself."
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise CheckpointError(
            f"{path} is a web page instead of weights, probably an error page. Download it again."
        )
    return path


def _read(path: Path, verify: bool) -> Checkpoint:
    with path.open("rb") as stream:
        head = stream.read(9)
    # A safetensors file starts with the length of its JSON header, a PyTorch file is a ZIP archive.
    is_safetensors = head[8:] == b"{" and not head.startswith(b"PK")
    return (_read_safetensors if is_safetensors else _read_torch)(path, verify)


def read_safetensors(path: Path, *, verify: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        CheckpointError: if the file is damaged.
    """
    from safetensors import safe_open

    try:
        with safe_open(str(path), "pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except Exception as error:  # the reader may raise anything for a broken header
        raise CheckpointError(
            f"{path} is a damaged or truncated safetensors file ({error}). Copy it again."
        ) from error
    if verify and CHECKSUM in metadata and content_sha256(tensors, metadata) != metadata[CHECKSUM]:
        raise CheckpointError(
            f"{path} is damaged: its content does not have the SHA-256 checksum that was saved "
            "with it. Download or copy it again."
        )
    return tensors, metadata


def _read_safetensors(path: Path, verify: bool) -> Checkpoint:
    tensors, metadata = read_safetensors(path, verify=verify)
    if metadata.get("format") != FORMAT:
        return _from_tensors(path, tensors, "a safetensors file")
    if metadata.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has version {metadata.get('version')!r} of the format, but this installation "
            f"reads version {VERSION}. Upgrade bigr-lightning."
        )
    weights, discriminator = _split(tensors, DISCRIMINATOR)
    kind = _checked_kind(path, metadata.get("kind"))
    config = parse_config(path, metadata.get("config", ""))
    settings = parse_settings(path, metadata)
    layout = "the format of this project"
    return Checkpoint(path, layout, kind, weights, config, discriminator, settings)


def _read_torch(path: Path, verify: bool) -> Checkpoint:
    content = _unpickle(path, verify)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a checkpoint. Supported are {READABLE}."
        )
    about = content.get("bigr")
    if "state_dict" in content:
        return _from_lightning(path, content["state_dict"], about)
    for key in ("ema", "model"):
        if isinstance(content.get(key), Mapping):
            found = _from_tensors(path, content[key], f"the released layout, its {key!r} weights")
            if not isinstance(about, Mapping):
                return found
            config, settings = _stated_config(path, about), parse_settings(path, about)
            return replace(found, config=config, settings=settings)
    return _from_tensors(path, content, "the released layout")


def _unpickle(path: Path, verify: bool) -> Any:
    with path.open("rb") as stream:
        head = stream.read(2)
    is_zip = head == b"PK"
    if not is_zip and head[:1] != PICKLE_START:
        raise _not_a_checkpoint(path)
    damage = find_damage(path) if is_zip and verify else None
    if damage is not None:
        raise CheckpointError(
            f"{path} starts like a PyTorch file, but {damage}. Download or copy it again."
        )
    try:
        # The released trainer saves its command line as argparse.Namespace, which is harmless.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip or None)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None and "Unsupported operand" not in str(error):
            raise _not_a_checkpoint(path) from error
        what = f"the Python object {named[1]}" if named else "Python objects"
        raise CheckpointError(
            f"{path} contains {what} besides tensors. Loading it could run code from the file and "
            "is not supported. If you trust the file, save its tensors as a flat dictionary with "
            "the program that made it."
        ) from error
    except Exception as error:  # the reader may raise anything for a broken pickle
        raise CheckpointError(
            f"{path} starts like a PyTorch file, but it is damaged or truncated "
            f"({path.stat().st_size:,} bytes). Download or copy it again."
        ) from error


def _not_a_checkpoint(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a checkpoint: it is neither a PyTorch nor a safetensors file. "
        f"Supported are {READABLE}."
    )


def _from_lightning(path: Path, state: Any, about: Any) -> Checkpoint:
    if not isinstance(about, Mapping) or not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path} is a Lightning checkpoint of another project, without a 'bigr' entry. "
            f"Supported are {READABLE}."
        )
    kind = _checked_kind(path, about.get("kind"))
    _, weights = _split(_tensors(state), MODULE_PREFIXES[kind])
    if about.get(LORA_SCALE) is not None:
        weights = _with_adapters(path, weights, about[LORA_SCALE])
    config = _stated_config(path, about)
    settings = parse_settings(path, about)
    return Checkpoint(path, "a Lightning checkpoint", kind, weights, config, {}, settings)


def _with_adapters(path: Path, weights: dict[str, Tensor], scale: Any) -> dict[str, Tensor]:
    """Return the weights of a generator that was trained with LoRA, under plain names."""
    try:
        return merged(weights, float(scale))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error} Copy it again.") from error


def _from_tensors(path: Path, content: Mapping[str, Any], layout: str) -> Checkpoint:
    """Recognise the kind of a dictionary of tensors under released names or our own."""
    # 1. Remove the prefixes of DistributedDataParallel and torch.compile, and the configuration.
    tensors = _tensors(content)
    for prefix in WRAPPER_PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    config = None
    if CONFIG_TENSOR in tensors:
        config = _config_in_tensor(path, tensors.pop(CONFIG_TENSOR))
    # 2. A generator, under released names or our own.
    if "mask_tok" in tensors or any(name.startswith("denoise_mlp.") for name in tensors):
        weights = generator_from_released(tensors)
        return Checkpoint(path, layout, "generator", weights, config, {})
    if "transformer.mask_token" in tensors:
        return Checkpoint(path, layout, "generator", tensors, config, {})
    # 3. A B-AE, under released names or our own.
    rest, inner = _split(tensors, "ae.")
    flat = inner or rest
    if any(name.startswith("quantize.") for name in flat):
        discriminator = discriminator_from_released(_split(rest, "disc.")[1])
        weights = autoencoder_from_released(flat)
        return Checkpoint(path, layout, "autoencoder", weights, config, discriminator)
    if "quantizer.embedding.weight" in flat:
        rest, discriminator = _split(tensors, DISCRIMINATOR)
        return Checkpoint(path, layout, "autoencoder", rest, config, discriminator)
    shown = ", ".join(list(map(str, content))[:4]) or "nothing"
    raise CheckpointError(
        f"{path} is neither a generator nor a B-AE: it contains {shown}"
        f"{' and more' if len(content) > 4 else ''}. Supported are {READABLE}."
    )


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _check_extent(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise an error if the tensors would take more memory than their file has bytes.

    A file can describe tensors whose values it does not contain, for example with strides of 0.
    """
    size = path.stat().st_size
    needed = 0
    for name, tensor in tensors.items():
        needed += tensor.numel() * tensor.element_size()
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or needed > size:
            raise CheckpointError(
                f"{path} has only {size:,} bytes and does not contain all values of its tensor "
                f"{name}, whose shape is {tuple(tensor.shape)}. Download or copy it again."
            )


def _split(
    tensors: Mapping[str, Tensor], prefix: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split into tensors without ``prefix`` and tensors with it, from which it is removed."""
    without = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    return without, {
        name.removeprefix(prefix): tensors[name] for name in tensors if name not in without
    }


def _checked_kind(path: Path, kind: Any) -> str:
    if not isinstance(kind, str) or kind not in KIND_NAMES:
        raise CheckpointError(
            f"{path} contains a model of kind {kind!r}; supported are {', '.join(KIND_NAMES)}. "
            "Upgrade bigr-lightning if the file comes from a newer version."
        )
    return kind


def _stated_config(path: Path, about: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the configuration in the entry "bigr" of a PyTorch file."""
    config = about.get("config")
    if not isinstance(config, Mapping) or not all(isinstance(key, str) for key in config):
        raise CheckpointError(
            f"The entry 'bigr' of {path} contains no configuration of the model. Copy the file "
            "again, or give another one."
        )
    return dict(config)


def _config_in_tensor(path: Path, tensor: Tensor) -> dict[str, Any]:
    _check_extent(path, {CONFIG_TENSOR: tensor})
    if tensor.dtype != torch.uint8 or tensor.ndim != 1 or len(tensor) > LARGEST_CONFIG:
        raise CheckpointError(
            f"The tensor {CONFIG_TENSOR} in {path} is not text but {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}. Copy the file again."
        )
    return parse_config(path, bytes(tensor.tolist()))


def parse_config(path: Path, text: str | bytes) -> dict[str, Any]:
    """Return the configuration in JSON text from a file, or raise ``CheckpointError``."""
    try:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise TypeError("it is not a mapping")
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"The configuration in {path} is not readable ({error}). Copy the file again."
        ) from error
    return config


def parse_settings(path: Path, about: Mapping[Any, Any]) -> ModelSettings:
    """Return the settings of a generator; files of earlier versions contain only class names."""
    text = about.get(SETTINGS)
    if text is None and "classes" in about:
        text = f'{{"class_names": {about["classes"]}}}'
    if text is None:
        return UNKNOWN
    try:
        return ModelSettings.from_json(text)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise CheckpointError(
            f"The settings of the generator in {path} are not valid: {reason}. Copy the file "
            "again, or upgrade bigr-lightning if the file comes from a newer version."
        ) from error
