"""JSON files that contain a checksum of their own content, which reveals damage.

The key ``sha256`` holds the checksum of everything else in the file. Spaces and the order of the
keys do not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bigr.data.files import check_regular

CHECKSUM = "sha256"
MAX_SIZE = 2**30
"""Size in bytes above which a file is not read into memory, but raises an error."""


class DamagedFileError(ValueError):
    """A file differs from what was written; the message names it, without a full stop."""


def seal(content: Mapping[str, Any]) -> bytes:
    """Encode a mapping as JSON together with its checksum.

    Args:
        content: data that JSON can represent, without the key ``sha256``.

    Returns:
        The content of a file.
    """
    return (json.dumps({**content, CHECKSUM: _checksum(content)}, indent=2) + "\n").encode()


def unseal(data: bytes | str, *, needs_checksum: bool = True) -> dict[str, Any]:
    """Decode what :func:`seal` returned, and compare the checksum.

    Args:
        data: the content of a file.
        needs_checksum: whether content without a checksum, such as that of files from earlier
            versions, raises an error.

    Returns:
        The mapping, without the checksum.

    Raises:
        ValueError: if the data are not valid or were changed; the message is the reason.
    """
    try:
        content = json.loads(data)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"it contains a {type(content).__name__} instead of a mapping")
    if CHECKSUM not in content:
        if needs_checksum:
            raise ValueError("it has no checksum")
        return content
    if content.pop(CHECKSUM) != _checksum(content):
        raise ValueError("its content does not match its checksum")
    return content


def read_sealed(path: Path, *, needs_checksum: bool = True) -> dict[str, Any]:
    """Read a file that contains the bytes of :func:`seal`.

    Args:
        path: the file.
        needs_checksum: see :func:`unseal`.

    Raises:
        DamagedFileError: if the file was changed, or is not a regular file.
        OSError: if there is no such file, or it cannot be read.
    """
    try:
        size = check_regular(path).stat().st_size
        if size > MAX_SIZE:
            raise ValueError(f"it has {size:,} bytes, which is too many")
        return unseal(path.read_bytes(), needs_checksum=needs_checksum)
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged ({error})") from error


def _checksum(content: Mapping[str, Any]) -> str:
    """Return the checksum of a mapping, the same before and after it was written as JSON."""
    decoded = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(decoded, sort_keys=True).encode()).hexdigest()
