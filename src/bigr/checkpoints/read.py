"""Any checkpoint file to tensors under our names, told apart by content, never by suffix."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
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
    """What a file holds."""

    path: Path
    layout: str
    """In words, for messages."""
    kind: str
    """``generator`` or ``autoencoder``."""
    weights: dict[str, Tensor]
    """Under our names; names that we don't know are kept."""
    config: dict[str, Any] | None
    """Sizes as they were saved; released files have none."""
    discriminator: dict[str, Tensor]
    """Under our names; empty if there is none."""


def read_checkpoint(path: str | os.PathLike[str], kind: str) -> Checkpoint:
    """Read the file at ``path``; in a directory, the one for ``kind``.

    Raises:
        CheckpointError: if it can't be read, or holds something else than ``kind``.
    """
    file = _find(Path(path).expanduser(), kind)
    found = _read_safetensors(file) if _is_safetensors(file) else _read_torch(file)
    if found.kind != kind:
        raise CheckpointError(
            f"{file} is {KIND_NAMES[found.kind]} ({found.layout}), but {KIND_NAMES[kind]} is "
            f"needed here: give the {kind}'s file, or use load_{found.kind} for this one."
        )
    return found


def kind_of(path: str | os.PathLike[str]) -> str:
    """``generator`` or ``autoencoder``.

    Raises:
        CheckpointError: if the file can't be read.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise CheckpointError(f"{file} is a directory: name the file in it.")
    file = _find(file, "generator")
    return (_read_safetensors(file) if _is_safetensors(file) else _read_torch(file)).kind


def _find(path: Path, kind: str) -> Path:
    """The file that ``path`` means."""
    if path.is_dir():
        file = path / f"{kind}.safetensors"
        if file.is_file():
            return file
        found = sorted(
            str(item.relative_to(path))
            for suffix in ("safetensors", "ckpt", "pt", "th")
            for item in path.rglob(f"*.{suffix}")
        )
        listing = f"it holds {', '.join(found[:5])}" if found else "it holds no checkpoint at all"
        raise CheckpointError(
            f"The directory {path} has no {kind}.safetensors; {listing}. Name the file itself."
        )
    if not path.exists():
        raise CheckpointError(
            f"There is no checkpoint {path}. Check the path; it is taken from {Path.cwd()} on."
        )
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file. Expected {READABLE}.")
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}.") from error
    if not head:
        raise CheckpointError(f"{path} is empty. Download or copy it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is only a Git LFS pointer, not the weights. Run `git lfs pull` in its "
            "repository, or download the file itself."
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise CheckpointError(
            f"{path} is a web page, not weights: the download got an error page. Download again."
        )
    return path


def _is_safetensors(path: Path) -> bool:
    """A length below the file's, and then JSON."""
    with path.open("rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:] == b"{" and not head.startswith(b"PK")


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
            f"{path} has version {metadata.get('version')!r} of this project's format, and this "
            f"installation reads version {VERSION}. Upgrade bigr-lightning."
        )
    weights, discriminator = _split(tensors, DISCRIMINATOR)
    return Checkpoint(
        path=path,
        layout="this project's format",
        kind=_checked_kind(path, metadata.get("kind")),
        weights=weights,
        config=_parsed(path, metadata.get("config", "")),
        discriminator=discriminator,
    )


def _read_torch(path: Path) -> Checkpoint:
    content = _unpickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a checkpoint. Expected {READABLE}."
        )
    about = content.get("bigr")
    if "state_dict" in content:
        return _from_lightning(path, content["state_dict"], about)
    for key in ("ema", "model"):
        if isinstance(content.get(key), Mapping):
            found = _from_tensors(path, content[key], f"the released layout, its {key!r} weights")
            config = about["config"] if isinstance(about, Mapping) else None
            return Checkpoint(**{**vars(found), "config": config})
    return _from_tensors(path, content, "the released layout")


def _unpickle(path: Path) -> Any:
    with path.open("rb") as stream:
        head = stream.read(2)
    is_zip = head == b"PK"
    if not is_zip and head[:1] != PICKLE_START:
        raise _not_a_checkpoint(path)
    try:
        # The released trainer keeps its command line, a plain argparse.Namespace, in the file.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip or None)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None and "Unsupported operand" not in str(error):
            raise _not_a_checkpoint(path) from error
        what = f"the Python object {named[1]}" if named else "Python objects"
        raise CheckpointError(
            f"{path} holds {what} beside tensors. Loading it could run code hidden in the file, "
            "so it is refused. If you trust it, save its tensors alone, as a flat dictionary, "
            "with the program that made it."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, OSError) as error:
        raise CheckpointError(
            f"{path} starts like a PyTorch file, but is broken or cut off "
            f"({path.stat().st_size:,} bytes). Download or copy it again."
        ) from error


def _not_a_checkpoint(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a checkpoint: it is neither a PyTorch nor a safetensors file. "
        f"Expected {READABLE}."
    )


def _from_lightning(path: Path, state: Any, about: Any) -> Checkpoint:
    if not isinstance(about, Mapping) or not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path} is a Lightning checkpoint of another project: it has no 'bigr' entry. "
            f"Expected {READABLE}."
        )
    kind = _checked_kind(path, about.get("kind"))
    weights, _ = _split(state, MODULE_PREFIXES[kind])[::-1]
    return Checkpoint(
        path=path,
        layout="a Lightning checkpoint",
        kind=kind,
        weights=weights,
        config=dict(about["config"]),
        discriminator={},
    )


def _from_tensors(path: Path, content: Mapping[str, Any], layout: str) -> Checkpoint:
    """Tensors under released or our own names, whichever they are."""
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in WRAPPER_PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    config = None
    if CONFIG_TENSOR in tensors:
        config = _parsed(path, bytes(tensors.pop(CONFIG_TENSOR).tolist()).decode())
    if "mask_tok" in tensors or any(name.startswith("denoise_mlp.") for name in tensors):
        weights = generator_from_released(tensors)
        return Checkpoint(path, layout, "generator", weights, config, {})
    if "transformer.mask_token" in tensors:
        return Checkpoint(path, layout, "generator", tensors, config, {})
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
        f"{path} is neither a generator nor a B-AE: it holds {shown}"
        f"{' and more' if len(content) > 4 else ''}. Expected {READABLE}."
    )


def _split(
    tensors: Mapping[str, Tensor], prefix: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Those without ``prefix``, and those with it, which lose it."""
    without = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    having = {
        name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)
    }
    return without, having


def _checked_kind(path: Path, kind: Any) -> str:
    if kind not in KIND_NAMES:
        raise CheckpointError(
            f"{path} says that it holds {kind!r}; known are {', '.join(KIND_NAMES)}. "
            "Upgrade bigr-lightning if it is newer."
        )
    return str(kind)


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"The configuration inside {path} is unreadable ({error}). Copy the file again."
        ) from error
