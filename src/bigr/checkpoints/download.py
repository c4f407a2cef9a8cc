"""Downloads of published files that can be interrupted, and are verified before they are used."""

from __future__ import annotations

import contextlib
import http
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bigr.checkpoints.cached import CachedFile
from bigr.data.array_files import check_archive
from bigr.data.files import sha256

BLOCK_SIZE = 2**20
TIMEOUT_SECONDS = 30
PARTIAL = ".partial"
RANGE_NOT_SATISFIABLE = 416


class DownloadError(ValueError):
    """A file cannot be downloaded; the message says how to get it manually."""


def download(
    file: CachedFile,
    target: Path,
    *,
    on_start: Callable[[int, int | None], object] = lambda *_: None,
    on_bytes: Callable[[int], object] = lambda _: None,
) -> None:
    """Download a published file, and verify it.

    The content is first written to ``<target>.partial``, where a later call continues.

    Args:
        file: what to download.
        target: where it is written to.
        on_start: called with the number of bytes that already exist, and the total if it is known.
        on_bytes: called with the number of bytes of each block.

    Raises:
        DownloadError: if the server cannot be reached or does not have the file, the content has
            another checksum, the disk is full, or another command is downloading it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + PARTIAL)
    with _alone(part):
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                is_complete = _continue(file.url, part, on_start, on_bytes)
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                raise DownloadError(
                    f"{file.url} cannot be downloaded ({reason}). Repeat the command to continue, "
                    f"or download it elsewhere, {_how_to_verify(file)}, and place it at {target}."
                ) from error
            if is_complete:
                break
            if part.stat().st_size <= before:
                raise DownloadError(
                    f"{file.url}: the server closed the connection too early. Repeat the command "
                    "to continue."
                )
        _verify(file, part)
        part.replace(target)


def _continue(
    url: str,
    part: Path,
    on_start: Callable[[int, int | None], object],
    on_bytes: Callable[[int], object],
) -> bool:
    """Download what is missing of a file; return whether it is complete."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE and have:
            return True  # the file is already complete
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # this server always sends the whole file
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        on_start(have, total)
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            raise OSError(f"{total - have:,} bytes are missing, but {part.parent} has {free:,}")
        with part.open("r+b" if have else "wb") as output:
            output.seek(have)
            while block := response.read(BLOCK_SIZE):
                output.write(block)
                on_bytes(len(block))
            output.truncate()
    return total is None or part.stat().st_size >= total


def _verify(file: CachedFile, part: Path) -> None:
    """Compare the checksum of the file, or those of its arrays if no other is known."""
    try:
        if file.hash:
            found = sha256(part)
            if not found.startswith(file.hash):
                raise ValueError(f"its SHA-256 checksum is {found}, but must be {file.hash}")
        else:
            check_archive(part)
    except ValueError as error:
        part.unlink()
        raise DownloadError(
            f"{file.url} was damaged during the download, or has been replaced: {error}. It was "
            "deleted; repeat the command to download it again."
        ) from error


def _how_to_verify(file: CachedFile) -> str:
    if not file.hash:
        return "test it as a zip archive"
    return f"check that its SHA-256 checksum is {file.hash}"


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Keep other commands from downloading the same file."""
    lock = part.with_name(part.name + ".lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except Timeout as error:
        raise DownloadError(
            f"another command is downloading {part}: wait until it has finished."
        ) from error
