"""One writer at a time: folders that a running command has locked."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOCK_FILE = ".bigr.lock"
HOLDER_FILE = ".bigr.lock.json"
WAIT_SECONDS = 10.0
"""How long a command waits for a lock: loader processes of a killed command exit within 5 s."""


class LockedError(ValueError):
    """Another command writes into the folder."""


@contextlib.contextmanager
def only_writer(folder: Path, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock of a folder, so that no other command writes into it at the same time.

    The operating system releases the lock when the process ends, even if it is killed, so no
    stale lock remains. File systems without such locks get a lock file with the process id instead,
    which is taken over when that process no longer exists. The library filelock implements both.

    Example:
        >>> with only_writer(run_folder):
        ...     trainer.fit(module)

    Args:
        folder: created if it does not exist.
        wait_seconds: how long to wait for another process to release the lock.

    Raises:
        LockedError: if another process holds the lock; the message says which one.
        OSError: if the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, timeout=wait_seconds, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"{folder} is in use by {_holder(folder)}: wait until it has finished, or choose "
            "another folder."
        ) from None
    about = {"pid": os.getpid(), "host": socket.gethostname(), "command": _command()}
    about["since"] = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        (folder / HOLDER_FILE).write_text(json.dumps(about))
        yield
    finally:
        (folder / HOLDER_FILE).unlink(missing_ok=True)
        lock.release()


def _command() -> str:
    """Return the name of the running command, such as ``bigr.train``."""
    main = getattr(sys.modules["__main__"], "__spec__", None)
    return str(main.name) if main is not None and main.name else Path(sys.argv[0]).name


def _holder(folder: Path) -> str:
    """Describe the process that holds the lock of ``folder``."""
    try:
        about: dict[str, Any] = json.loads((folder / HOLDER_FILE).read_text())
        return (
            f"{about['command']} (process {about['pid']} on {about['host']}, since "
            f"{about['since']})"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
