"""Weights by name, from a hub on loopback that serves the released layout."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigr import BiGRPipeline
from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.export import save_released_autoencoder, save_released_generator
from bigr.checkpoints.hub import AUTOENCODERS, GENERATORS, find_pair, released_files
from tests.models import tiny_autoencoder, tiny_generator
from tests.processes import python

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import sys
from bigr import BiGRPipeline
from bigr.checkpoints.errors import CheckpointError
try:
    pipeline = BiGRPipeline.from_pretrained("haoosz/BiGR", model="l", device="cpu")
except CheckpointError as error:
    sys.exit(f"refused: {error}")
print(pipeline.generate(0, num_iterations=2, num_denoise_steps=2)[0].tobytes().hex())
"""


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


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "hub"
    generator, autoencoder = released_files("l", "d24", 256)
    save_released_generator(tiny_generator(), folder / generator)
    save_released_autoencoder(tiny_autoencoder(), folder / autoencoder)
    with Hub(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def load(hub: Hub, folder: Path, code: str = LOAD, **variables: str) -> tuple[int, str]:
    folder.mkdir(exist_ok=True)
    cache = str(folder / "cache")
    result = python(
        "-c", code, cwd=folder, HF_ENDPOINT=hub.address, HF_HOME=cache, HF_HUB_DISABLE_XET="1",
        HF_HUB_DOWNLOAD_TIMEOUT="3", HF_HUB_ETAG_TIMEOUT="3", **variables,
    )  # fmt: skip
    return result.returncode, result.stdout + result.stderr


def test_from_the_hub_and_offline(hub: Hub, tmp_path: Path) -> None:
    """Downloaded, then from the cache without any request; the same as a local copy gives."""
    code, first = load(hub, tmp_path)
    assert code == 0, first
    before = hub.requests
    code, again = load(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert (code, again) == (0, first)
    assert hub.requests == before
    result = python("-c", LOAD.replace("haoosz/BiGR", str(hub.folder)), cwd=tmp_path)
    assert result.stdout == first


def test_own_repository_with_class_names(hub: Hub, tmp_path: Path) -> None:
    BiGRPipeline(
        tiny_generator(), tiny_autoencoder(), class_names=["ant", "bee", "cat"], device="cpu"
    ).save_pretrained(hub.folder)
    code = LOAD.replace("generate(0,", 'generate("Bee",').replace("haoosz/BiGR", "me/mine")
    status, named = load(hub, tmp_path, code)
    assert status == 0, named
    (hub.folder / "classes.txt").unlink()
    code = code.replace('"Bee"', "1")
    assert load(hub, tmp_path / "again", code) == (0, named)
    assert load(hub, tmp_path / "again", code, HF_HUB_OFFLINE="1") == (0, named)


def test_damaged_download_is_refused(hub: Hub, tmp_path: Path) -> None:
    """The next attempt downloads the file again."""
    hub.damaged = True
    code, said = load(hub, tmp_path)
    assert code == 1
    assert "was damaged in the download" in said
    hub.damaged = False
    code, said = load(hub, tmp_path)
    assert code == 0, said


def test_nothing_cached_and_offline(hub: Hub, tmp_path: Path) -> None:
    code, said = load(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert code == 1
    assert "the hub can't be reached" in said


def test_every_released_generator_has_its_autoencoder() -> None:
    for model, code, resolution in GENERATORS:
        _, autoencoder = released_files(model, code, resolution)
        assert autoencoder == AUTOENCODERS[code, resolution]
    with pytest.raises(CheckpointError, match="model=l code=d32 resolution=256 was not released"):
        released_files("l", "d32", 256)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a hub repository"):
        find_pair(tmp_path / "nowhere")
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator" / "generator.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"lacks autoencoder/autoencoder\.safetensors"):
        find_pair(tmp_path)
