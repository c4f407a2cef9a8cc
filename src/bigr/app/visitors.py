"""The visitors of the web app: which files belong to whom, and when they are deleted.

A visitor is a browser. A random cookie identifies it, a private folder keeps its files, and the
folder is deleted when the last of its pages has been closed. Nothing here depends on Gradio.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bigr.data.files import write_atomically
from bigr.data.locks import LockedError, only_writer

PREFIX = "bigr-app-"
"""Prefix of the folders of all running apps in the system's temporary folder."""
STALE_SECONDS = 60.0
"""Age from which a folder that no process has locked is that of an app that was killed."""
GRACE_SECONDS = 30.0
"""How long a visitor without an open page is remembered, for example while the page reloads."""
MOST_VISITORS = 100
MOST_SESSIONS = 20
"""Largest number of pages of one visitor that are remembered."""
KEPT_RUNS = 8
"""Number of results of one visitor that can still be downloaded."""
MOST_RUNNING = 4
"""Largest number of requests of one visitor that run or wait at a time."""


class RefusedError(ValueError):
    """A request that is not served; ``status`` is the code of the HTTP response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RunningRequest(NamedTuple):
    """A request that is being processed."""

    folder: Path
    """For its results."""
    stop: threading.Event
    """Set when it should end."""


class Visitor:
    """A browser, its open pages, and its files.

    Args:
        folder: created; everything that this visitor uploads or generates is in it.
        max_bytes: total size of the uploads. When it is exceeded, the oldest ones are deleted.
    """

    def __init__(self, folder: Path, max_bytes: float) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.sessions: dict[str, None] = {}
        """Gradio's names of the pages of this visitor, oldest first."""
        self.open_pages = 0
        self.left_at = time.monotonic()
        """When there last was an open page."""
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._is_gone = False
        self._runs: list[Path] = []
        self._running: set[Path] = set()
        self._stops: dict[str, threading.Event] = {}
        self.folder.mkdir(mode=0o700)

    def owns(self, path: str | os.PathLike[str]) -> bool:
        """Whether ``path`` is an existing file of this visitor."""
        with contextlib.suppress(OSError, ValueError):
            real = Path(path).resolve(strict=True)
            return real.is_file() and real.is_relative_to(self.folder.resolve())
        return False

    def store(self, name: str, content: bytes) -> Path:
        """Keep an uploaded file, and return its path.

        The same content is stored only once, even if the page sends it several times at once.
        The oldest uploads are deleted if all of them together are larger than ``max_bytes``.

        Args:
            name: any text; characters that a file name cannot contain are replaced.
            content: at most ``max_bytes``.
        """
        plain = re.sub(r"[^\w.-]+", "_", Path(name).name).strip("._")[-64:] or "picture"
        path = self.folder / f"{hashlib.sha256(content).hexdigest()[:16]}_{plain}"
        with self._storing:
            write_atomically(path, content)
            uploads = []
            for found in self.folder.iterdir():
                with contextlib.suppress(FileNotFoundError):  # deleted in the meantime
                    status = found.stat()
                    if found != path and stat.S_ISREG(status.st_mode):
                        uploads.append((status.st_mtime, status.st_size, found))
            excess = sum(size for _, size, _ in uploads) + len(content) - self.max_bytes
            for _, size, oldest in sorted(uploads):
                if excess <= 0:
                    break
                excess -= size
                oldest.unlink(missing_ok=True)
        return path

    def size(self) -> int:
        """Return the total size of all files of this visitor, in bytes."""
        total = 0
        # Other requests may delete files and folders meanwhile, for which Path.rglob would fail.
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(os.path.join(folder, name)).st_size
        return total

    @contextlib.contextmanager
    def run(self, session: str) -> Iterator[RunningRequest]:
        """Yield a folder for the results of one request, and its signal; old folders are deleted.

        Args:
            session: the page that has sent the request.

        Raises:
            RefusedError: if the visitor has left while the request waited in the queue, or if
                :data:`MOST_RUNNING` other requests of the visitor are not finished.
        """
        with self._lock:
            if self._is_gone:
                raise RefusedError(410, "the page was closed.")
            if len(self._running) >= MOST_RUNNING:
                raise RefusedError(
                    429, f"{MOST_RUNNING} of your requests are not finished: wait for one."
                )
            stop = self._stops[session] = threading.Event()
            folder = Path(tempfile.mkdtemp(prefix="run_", dir=self.folder))
            self._running.add(folder)
            self.open_pages += 1  # the folder must stay until the end of the request
            self._runs.append(folder)
            finished = [path for path in self._runs if path not in self._running]
            for path in finished[: max(len(self._runs) - KEPT_RUNS, 0)]:
                self._runs.remove(path)
                shutil.rmtree(path, ignore_errors=True)
        try:
            yield RunningRequest(folder, stop)
        finally:
            self._stops.pop(session, None)
            self._running.remove(folder)
            self.close_page()

    def stop(self, session: str) -> None:
        """Tell the request of the page ``session``, if there is one, to end."""
        with contextlib.suppress(KeyError):
            self._stops[session].set()

    def open_page(self) -> None:
        """Count a page that has been opened."""
        with self._lock:
            self.open_pages += 1

    def close_page(self) -> None:
        """Count a page that has been closed."""
        with self._lock:
            self.open_pages -= 1
            self.left_at = time.monotonic()

    def leave(self, now: float | None = None) -> bool:
        """Delete all files if no page was open for :data:`GRACE_SECONDS`; return whether they were.

        Args:
            now: the time of :func:`time.monotonic`; infinity deletes them in any case.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            is_here = self.open_pages > 0 or now - self.left_at <= GRACE_SECONDS
            if is_here and now != float("inf"):
                return False
            self._is_gone = True
        shutil.rmtree(self.folder, ignore_errors=True)
        return True


class Visitors:
    """All visitors of the app.

    Args:
        folder: a private folder that contains the folders of the visitors.
        visitor_bytes: total size of the uploads of one visitor.
        total_bytes: total size of the files of all visitors; when it is reached, uploads are
            rejected.
    """

    def __init__(self, folder: Path, visitor_bytes: float, total_bytes: float) -> None:
        self.folder = folder
        self.visitor_bytes = visitor_bytes
        self.total_bytes = total_bytes
        self._visitors: dict[str, Visitor] = {}

    def __len__(self) -> int:
        return len(self._visitors)

    def find(self, token: str | None) -> Visitor | None:
        """Return the visitor whose cookie is ``token``, or None if there is none."""
        return None if token is None else self._visitors.get(token)

    def welcome(self, token: str | None) -> tuple[str, Visitor]:
        """Return the visitor who loads the page, and the cookie that identifies the browser.

        Args:
            token: the cookie that the browser has sent; an unknown one is ignored.

        Raises:
            RefusedError: if there are :data:`MOST_VISITORS` visitors with open pages.
        """
        visitor = self.find(token)
        if token is None or visitor is None:
            if len(self) >= MOST_VISITORS:
                self._make_room()
            token = secrets.token_urlsafe(24)
            visitor = Visitor(self.folder / secrets.token_hex(8), self.visitor_bytes)
            self._visitors[token] = visitor
        visitor.left_at = time.monotonic()
        return token, visitor

    def enter(self, visitor: Visitor, session: str) -> None:
        """Note that the page with Gradio's name ``session`` belongs to ``visitor``.

        Raises:
            RefusedError: if it is not a valid name, or the page belongs to someone else.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", session):
            raise RefusedError(400, "session_hash must be 1 to 64 letters and digits.")
        if session in visitor.sessions:
            return
        if any(session in other.sessions for other in self._all()):
            raise RefusedError(403, "this page belongs to another visitor.")
        visitor.sessions[session] = None
        while len(visitor.sessions) > MOST_SESSIONS:
            del visitor.sessions[next(iter(visitor.sessions))]

    def check_space(self, size: int) -> None:
        """Raise :class:`RefusedError` if ``size`` more bytes would exceed the total."""
        if size + sum(visitor.size() for visitor in self._all()) > self.total_bytes:
            raise RefusedError(507, "the app has no space left for pictures: try again later.")

    def sweep(self) -> None:
        """Delete the files of visitors who have left."""
        for token, visitor in list(self._visitors.items()):
            if visitor.leave():
                self._visitors.pop(token, None)

    def close(self) -> None:
        """Delete the files of all visitors."""
        for visitor in self._all():
            visitor.leave(float("inf"))
        self._visitors.clear()

    def _all(self) -> list[Visitor]:
        """Return the current visitors; other threads may add and remove some meanwhile."""
        return list(self._visitors.values())

    def _make_room(self) -> None:
        """Forget the earliest visitor who has no open page."""
        for token, visitor in list(self._visitors.items()):
            if visitor.open_pages == 0:
                visitor.leave(float("inf"))
                self._visitors.pop(token, None)
                return
        raise RefusedError(503, "too many people are using the app: try again later.")


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a temporary folder that only this user can read; it is deleted at the end.

    Until then, the whole process uses it as its temporary folder, all files that the process
    creates are private, and SIGTERM raises ``SystemExit``, so that the folder is deleted. Folders
    that killed apps have left behind are deleted first.
    """
    remove_stale_folders()
    mask, place = os.umask(0o077), tempfile.tempdir
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with _exit_on_sigterm(), only_writer(folder):
            tempfile.tempdir = str(folder)
            yield folder
    finally:
        tempfile.tempdir = place
        os.umask(mask)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into ``SystemExit``; signals can only be handled by the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def remove_stale_folders() -> None:
    """Delete the temporary folders of apps whose processes no longer exist."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, LockedError):
            about = folder.lstat()
            is_ours = not hasattr(os, "getuid") or about.st_uid == os.getuid()
            is_ours &= stat.S_ISDIR(about.st_mode)
            if is_ours and time.time() - about.st_mtime > STALE_SECONDS:
                with only_writer(folder, wait_seconds=0):
                    pass
                shutil.rmtree(folder, ignore_errors=True)
