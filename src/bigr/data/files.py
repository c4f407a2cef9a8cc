"""Operations on whole files: atomic replacement, checksums, and a check for pipes and devices."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

BLOCK_SIZE = 2**22
VERIFY = "BIGR_VERIFY"
"""Environment variable; with 0, checksums are not compared when files are read."""
SPECIAL_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class SpecialFileError(ValueError):
    """A path is not a regular file. Reading it might block, or never end."""


def check_regular(path: Path) -> Path:
    """Return ``path`` if it is a regular file.

    Call this before a file is opened: opening a named pipe blocks until somebody writes into it.

    Args:
        path: a path; symbolic links are followed.

    Raises:
        SpecialFileError: if it is a folder, a named pipe, a socket or a device.
        OSError: if there is no such file.
    """
    kind = SPECIAL_FILES.get(stat.S_IFMT(path.stat().st_mode))
    if kind is not None:
        raise SpecialFileError(f"{path} is {kind}, but a regular file is needed here.")
    return path


def is_verifying() -> bool:
    """Return whether the checksums of files are compared on reading: unless ``BIGR_VERIFY=0``."""
    return os.environ.get(VERIFY) != "0"


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_SIZE):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that readers see either the old content or the complete new one.

    Example:
        >>> with replacing(folder / "figure.png") as temporary:
        ...     picture.save(temporary, format="PNG")

    The temporary file lies next to ``path``, is flushed to disk at the end of the block, and takes
    the place of ``path``. An exception within the block removes it and leaves ``path`` unchanged.
    Its name contains the process id, so several processes may write the same path. Missing
    parent folders are created.

    Args:
        path: the file to write.

    Yields:
        The path of the temporary file, which exists and is empty. Its name ends in ``.part``:
        writers that choose their format by the suffix need the format as an argument.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        permissions = temporary.stat().st_mode
        yield temporary
        temporary.chmod(permissions)  # some libraries create files that only their owner can read
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the content of ``path`` by ``data``; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
