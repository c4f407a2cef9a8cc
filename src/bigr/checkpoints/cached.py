"""Weights that other libraries keep in torch's hub cache, checked before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from bigr.data.files import sha256


class CachedFileError(ValueError):
    """Such a file is missing or wrong; says which one, and where it belongs."""


class CachedFile(NamedTuple):
    """A published file whose name holds the start of its SHA-256."""

    name: str
    hash: str
    folder: str
    """Of the address it is published at."""
    key: str
    """Of the setting that can name it."""
    purpose: str


def find_cached(file: CachedFile, given: str | None = None) -> Path:
    """Where a file is; nothing is downloaded.

    Args:
        file: which.
        given: a path to it; None is torch's hub cache.

    Raises:
        CachedFileError: if it isn't there, or isn't that file.
    """
    place = Path(torch.hub.get_dir()) / "checkpoints" / file.name
    path = Path(given).expanduser() if given else place
    if not path.is_file():
        raise CachedFileError(
            f"{file.purpose} needs {file.name}, and there is no {path}: get "
            f"{file.folder}/{file.name} and put it there, or name it in {file.key}=…."
        )
    if not sha256(path).startswith(file.hash):
        raise CachedFileError(
            f"{path} isn't {file.name}: its SHA-256 must start with {file.hash}. Get it again."
        )
    return path
