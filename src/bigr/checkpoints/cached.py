"""Published weights in torch's hub cache, verified by their checksum before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from bigr.data.files import sha256


class CachedFileError(ValueError):
    """A published file is missing or has another checksum; the message says how to get it."""


class CachedFile(NamedTuple):
    """A published file that is identified by the start of its SHA-256 checksum."""

    name: str
    hash: str
    folder: str
    """Address of the folder it is published in."""
    key: str
    """Name of the setting that takes the path of the file."""
    purpose: str
    """What needs the file, for messages."""


def find_cached(file: CachedFile, given: str | None = None) -> Path:
    """Return the path of a published file; nothing is downloaded.

    Args:
        file: the published file.
        given: path of the file; None looks in torch's hub cache.

    Raises:
        CachedFileError: if the file is missing or has another checksum.
    """
    place = Path(torch.hub.get_dir()) / "checkpoints" / file.name
    path = Path(given).expanduser() if given else place
    if not path.is_file():
        raise CachedFileError(
            f"{file.purpose} needs {file.name}, but {path} does not exist: download "
            f"{file.folder}/{file.name} to this path, or set {file.key}=… to its path."
        )
    if not sha256(path).startswith(file.hash):
        raise CachedFileError(
            f"{path} is not {file.name}: its SHA-256 checksum must start with {file.hash}. "
            f"Download {file.folder}/{file.name} again."
        )
    return path
