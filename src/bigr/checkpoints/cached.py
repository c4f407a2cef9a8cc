"""Published weights in torch's hub cache, verified by their checksum before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from bigr.data.files import sha256


class CachedFileError(ValueError):
    """A published file is missing or has another checksum; the message says where to get it."""


class CachedFile(NamedTuple):
    """A published file that is identified by its SHA-256 checksum."""

    name: str
    hash: str
    """Beginning of the checksum; empty if it is not known."""
    folder: str
    """Address of the folder it is published in."""
    key: str
    """Name of the setting that takes the path of the file."""
    purpose: str
    """What needs the file, for messages."""
    short: str = ""
    """Name for ``python -m bigr.fetch``."""
    use: str = "the other commands find it there"
    """What to do with the file, for messages, with its ``path`` in braces."""

    @property
    def url(self) -> str:
        """Address from which the file is downloaded."""
        return f"{self.folder}/{self.name}"

    @property
    def place(self) -> Path:
        """Where the file is looked for: torch's hub cache; references in the working directory."""
        if self.name.endswith(".npz"):
            return Path(self.name)
        return Path(torch.hub.get_dir()) / "checkpoints" / self.name


def find_cached(file: CachedFile, given: str | None = None) -> Path:
    """Return the path of a published file; nothing is downloaded.

    Args:
        file: the published file.
        given: path of the file; None looks in torch's hub cache.

    Raises:
        CachedFileError: if the file is missing or has another checksum.
    """
    path = Path(given).expanduser() if given else file.place
    if not path.is_file():
        raise CachedFileError(
            f"{file.purpose} needs {file.name}, but {path} does not exist: run "
            f"python -m bigr.fetch {file.short}, or download {file.url} to this path, or set "
            f"{file.key}=… to its path."
        )
    if not sha256(path).startswith(file.hash):
        raise CachedFileError(
            f"{path} is not {file.name}: its SHA-256 checksum must start with {file.hash}. "
            f"Download {file.url} again."
        )
    return path
