"""Downloads from a server on this computer: continued, verified, and explained where impossible."""

from __future__ import annotations

import hashlib
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from bigr import fetch
from bigr.checkpoints import published
from bigr.checkpoints.cached import CachedFile
from bigr.checkpoints.download import DownloadError, download

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves one file."""

    content = CONTENT
    limit = 10**9
    """Bytes after which a connection ends."""
    knows_ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if not self.path.endswith("/weights.pth"):
            self.send_error(404)
            return
        start = 0
        if wanted and self.server.knows_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
        if start and start >= len(self.server.content):
            self.send_error(416)
            return
        rest = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.limit])

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def file(server: Server) -> CachedFile:
    return CachedFile(
        name="weights.pth",
        hash=hashlib.sha256(CONTENT).hexdigest(),
        folder=f"http://127.0.0.1:{server.server_port}/v1",
        key="file",
        purpose="tests",
        short="weights",
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file(tmp_path: Path, server: Server, file: CachedFile) -> None:
    started: list[Any] = []
    parts: list[int] = []
    target = tmp_path / "new" / "weights.pth"
    download(file, target, on_start=lambda *pair: started.append(pair), on_bytes=parts.append)
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["weights.pth"]
    assert started == [(0, len(CONTENT))]
    assert sum(parts) == len(CONTENT)
    assert server.ranges == [None]


def test_connections_that_end_are_continued(
    tmp_path: Path, server: Server, file: CachedFile
) -> None:
    server.limit = 1_400_000
    download(file, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1400000-", "bytes=2800000-"]


def test_a_later_call_continues(tmp_path: Path, server: Server, file: CachedFile) -> None:
    target = tmp_path / "weights.pth"

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(file, target, on_bytes=interrupt)
    assert not target.exists()
    have = (tmp_path / "weights.pth.partial").stat().st_size
    assert 0 < have < len(CONTENT)
    server.limit = 0
    with pytest.raises(DownloadError, match=r"the server closed the connection too early\. Repeat"):
        download(file, target)
    server.limit = 10**9
    download(file, target)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={have}-", f"bytes={have}-"]


@pytest.mark.parametrize("have", [1000, len(CONTENT)])
def test_servers_without_ranges(
    tmp_path: Path, server: Server, file: CachedFile, have: int
) -> None:
    """They send the whole file again. A complete one is only verified."""
    server.knows_ranges = have == len(CONTENT)
    (tmp_path / "weights.pth.partial").write_bytes(CONTENT[:have])
    download(file, tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_damaged_content_is_deleted(tmp_path: Path, server: Server, file: CachedFile) -> None:
    server.content = CONTENT[:-1] + b"x"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DownloadError, match=f"its SHA-256 checksum is {found}, but must be"):
        download(file, tmp_path / "weights.pth")
    assert names(tmp_path) == []


def test_archives_without_a_known_checksum(
    tmp_path: Path, server: Server, file: CachedFile
) -> None:
    """Every array in them has a checksum of its own."""
    np.savez(tmp_path / "whole.npz", mu=np.arange(1000))
    whole = (tmp_path / "whole.npz").read_bytes()
    unknown = file._replace(hash="")
    server.content = whole
    download(unknown, tmp_path / "copy.npz")
    assert (tmp_path / "copy.npz").read_bytes() == whole
    flipped = bytearray(whole)
    flipped[600] ^= 1
    server.content = bytes(flipped)
    with pytest.raises(DownloadError, match=r"was damaged during the download.*mu\.npy"):
        download(unknown, tmp_path / "other.npz")


def test_what_to_do_without_a_connection(
    tmp_path: Path, server: Server, file: CachedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "weights.pth"
    nowhere = file._replace(folder="http://127.0.0.1:9/v1")
    with pytest.raises(DownloadError, match=r"cannot be downloaded .*refused") as error:
        download(nowhere, target)
    for part in (nowhere.url, f"its SHA-256 checksum is {file.hash}", f"place it at {target}"):
        assert part in str(error.value)
    with pytest.raises(DownloadError, match=r"cannot be downloaded \(Not Found\)"):
        download(file._replace(name="other.pth"), target)
    full = SimpleNamespace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: full)
        with pytest.raises(DownloadError, match=r"3,000,000 bytes are missing, but .* has 1,000"):
            download(file, target)
    with (
        FileLock(tmp_path / "weights.pth.partial.lock"),
        pytest.raises(DownloadError, match="another command is downloading"),
    ):
        download(file, target)


def test_the_command(
    tmp_path: Path,
    server: Server,
    file: CachedFile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(published, "PUBLISHED", {"weights": file})
    fetch.main([])
    assert "weights    missing  for tests\n  http://127.0.0.1" in capsys.readouterr().out
    fetch.main(["weights"])
    out = capsys.readouterr().out
    place = tmp_path / "hub" / "checkpoints" / "weights.pth"
    assert out.startswith(f"weights: {file.url} for tests, to {place}\n")
    assert out.endswith(f"weights: {place} is complete; the other commands find it there\n")
    assert place.read_bytes() == CONTENT
    fetch.main(["weights"])
    assert len(server.ranges) == 1
    fetch.main(["weights", "--folder", str(tmp_path / "elsewhere")])
    assert (tmp_path / "elsewhere" / "weights.pth").read_bytes() == CONTENT
    fetch.main([])
    assert "weights    present" in capsys.readouterr().out
    place.write_bytes(b"something else")
    for words, message in (
        (["weight"], "weight: there is no such file; choose from weights. Did you mean weights?"),
        (["weights"], "its SHA-256 checksum must start with"),
    ):
        with pytest.raises(SystemExit) as status:
            fetch.main(words)
        assert status.value.code == 2
        assert message in capsys.readouterr().err


def test_published_files() -> None:
    assert list(published.PUBLISHED) == ["inception", "vgg", "dinov2", "adm256", "adm512"]
    for file in published.PUBLISHED.values():
        assert file.url.startswith("https://")
        assert re.fullmatch(r"([0-9a-f]{64})?", file.hash)
        assert bool(file.hash) != file.name.endswith(".npz")
        named = re.search(r"-([0-9a-f]{8})\.", file.name)  # torch's convention
        assert named is None or file.hash.startswith(named[1])
