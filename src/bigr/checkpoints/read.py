"""Reading checkpoint files of any layout, which is recognised by content, not by suffix."""

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

from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.native import CONFIG_TENSOR, DISCRIMINATOR, FORMAT, VERSION
from bigr.checkpoints.released import (
    autoencoder_from_released,
    discriminator_from_released,
    generator_from_released,
)

KIND_NAMES = {"generator": "a generator", "autoencoder": "a B-AE"}
READABLE = (
    "a released generator (.pt), a released B-AE (.th), a .safetensors file or a Lightning "
    "checkpoint (.ckpt) of this project"
)
MODULE_PREFIXES = {"generator": "model.", "autoencoder": "autoencoder."}
PICKLE_START = b"\x80"
WRAPPER_PREFIXES = ("module.", "_orig_mod.")


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


def read_checkpoint(path: str | os.PathLike[str], kind: str) -> Checkpoint:
    """Read a checkpoint file.

    Args:
        path: a file, or a directory with a ``{kind}.safetensors``.
        kind: ``generator`` or ``autoencoder``.

    Raises:
        CheckpointError: if the file can't be read or is of another kind.
    """
    file = _find(Path(path).expanduser(), kind)
    found = _read(file)
    if found.kind != kind:
        raise CheckpointError(
            f"{file} is {KIND_NAMES[found.kind]} ({found.layout}), but {KIND_NAMES[kind]} is "
            f"needed here: give the file of the {kind}, or use load_{found.kind} for this one."
        )
    return found


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return whether a file contains a ``generator`` or an ``autoencoder``.

    Raises:
        CheckpointError: if the file can't be read.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise CheckpointError(f"{file} is a directory: give the path of a file in it.")
    return _read(_find(file, "generator")).kind


def _find(path: Path, kind: str) -> Path:
    """Return the file at ``path``, after checks of its existence and its first bytes."""
    # 1. A directory stands for the file in it.
    if path.is_dir():
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
            f"There is no checkpoint {path}, seen from {Path.cwd()}. Check the path."
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


def _read(path: Path) -> Checkpoint:
    with path.open("rb") as stream:
        head = stream.read(9)
    # A safetensors file starts with the length of its JSON header, a PyTorch file is a ZIP archive.
    is_safetensors = head[8:] == b"{" and not head.startswith(b"PK")
    return _read_safetensors(path) if is_safetensors else _read_torch(path)


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is a safetensors file, but broken or cut off ({error}). Copy it again."
        ) from error
    if metadata.get("format") != FORMAT:
        return _from_tensors(path, tensors, "a safetensors file")
    if metadata.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has version {metadata.get('version')!r} of the format, but this installation "
            f"reads version {VERSION}. Upgrade bigr-lightning."
        )
    weights, discriminator = _split(tensors, DISCRIMINATOR)
    kind = _checked_kind(path, metadata.get("kind"))
    config = _parsed(path, metadata.get("config", ""))
    return Checkpoint(path, "the format of this project", kind, weights, config, discriminator)


def _read_torch(path: Path) -> Checkpoint:
    content = _unpickle(path)
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
            config = about["config"] if isinstance(about, Mapping) else None
            return replace(found, config=config)
    return _from_tensors(path, content, "the released layout")


def _unpickle(path: Path) -> Any:
    with path.open("rb") as stream:
        head = stream.read(2)
    is_zip = head == b"PK"
    if not is_zip and head[:1] != PICKLE_START:
        raise _not_a_checkpoint(path)
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
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, OSError) as error:
        raise CheckpointError(
            f"{path} starts like a PyTorch file, but it is broken or cut off "
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
    _, weights = _split(state, MODULE_PREFIXES[kind])
    return Checkpoint(path, "a Lightning checkpoint", kind, weights, dict(about["config"]), {})


def _from_tensors(path: Path, content: Mapping[str, Any], layout: str) -> Checkpoint:
    """Recognise the kind of a dictionary of tensors under released names or our own."""
    # 1. Remove the prefixes of DistributedDataParallel and torch.compile, and the configuration.
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in WRAPPER_PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    config = None
    if CONFIG_TENSOR in tensors:
        config = _parsed(path, bytes(tensors.pop(CONFIG_TENSOR).tolist()).decode())
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


def _split(
    tensors: Mapping[str, Tensor], prefix: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split into tensors without ``prefix`` and tensors with it, from which it is removed."""
    without = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    return without, {
        name.removeprefix(prefix): tensors[name] for name in tensors if name not in without
    }


def _checked_kind(path: Path, kind: Any) -> str:
    if kind not in KIND_NAMES:
        raise CheckpointError(
            f"{path} contains a model of kind {kind!r}; supported are {', '.join(KIND_NAMES)}. "
            "Upgrade bigr-lightning if the file comes from a newer version."
        )
    return str(kind)


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"The configuration in {path} can't be read ({error}). Copy the file again."
        ) from error
