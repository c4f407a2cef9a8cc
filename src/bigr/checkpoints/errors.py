"""The exceptions for checkpoints that cannot be used, and for files that cannot be written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bigr.data.files import replacing


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


class SaveError(OSError):
    """A file cannot be written; the message says why, and that nothing has been changed.

    Attributes:
        reason: why, for example "No space left on device".
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(
            f"{os.fspath(path)} could not be written: {reason}. Nothing has been changed. Free "
            "some space or choose another folder, and try again."
        )
        self.reason = reason


@contextlib.contextmanager
def saving(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Replace a file like :func:`bigr.data.files.replacing`, and explain a failure in one sentence.

    Raises:
        SaveError: if the operating system, safetensors or PyTorch cannot write the file.
    """
    from safetensors import SafetensorError

    try:
        with replacing(Path(path)) as temporary:
            yield temporary
    # PyTorch's writer turns some errors of the operating system into its own.
    except (OSError, RuntimeError, SafetensorError) as error:
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(cause, "reason", None) or getattr(cause, "strerror", None) or str(cause)
        raise SaveError(path, reason.rstrip(".")) from error
