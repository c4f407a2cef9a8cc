"""A hub on loopback that serves the released layout, for tests that load weights by name."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

from bigr.checkpoints.export import save_released_autoencoder, save_released_generator
from bigr.checkpoints.hub import released_files
from tests.models import tiny_autoencoder, tiny_generator
from tests.processes import python

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Files under /haoosz/BiGR/resolve/…, named by their hashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged = False
        self.requests = 0
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        self.server.requests += 1
        prefix, _, path = self.path.partition("/resolve/main/")
        file = self.server.folder / path
        if prefix not in ("/haoosz/BiGR", "/me/mine") or not path or not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            return
        content = file.read_bytes()
        name = hashlib.sha256(content).hexdigest()
        if self.server.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(200)
        self.send_header("ETag", f'"{name}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def released_hub(folder: Path) -> Iterator[Hub]:
    """Serve ``folder``, with a tiny model in place of BiGR-L."""
    generator, autoencoder = released_files("l", "d24", 256)
    save_released_generator(tiny_generator(), folder / generator)
    save_released_autoencoder(tiny_autoencoder(), folder / autoencoder)
    with Hub(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run_with(hub: Hub, folder: Path, code: str, **variables: str) -> tuple[int, str]:
    """Run Python code for which ``hub`` is the hub; return its status and what it printed."""
    folder.mkdir(exist_ok=True)
    cache = str(folder / "cache")
    result = python(
        "-c", code, cwd=folder, HF_ENDPOINT=hub.address, HF_HOME=cache, HF_HUB_DISABLE_XET="1",
        HF_HUB_DOWNLOAD_TIMEOUT="3", HF_HUB_ETAG_TIMEOUT="3", **variables,
    )  # fmt: skip
    return result.returncode, result.stdout + result.stderr
