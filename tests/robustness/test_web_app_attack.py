"""The web app under attack by many clients at once.

``BIGR_FUZZ=1`` makes it last a minute instead of ten seconds.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from bigr import BiGRPipeline
from tests.browser import serving
from tests.models import tiny_autoencoder, tiny_generator
from tests.web_app import PageClient, photo

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

CLIENTS = 50
SECONDS = 60 if os.environ.get("BIGR_FUZZ") else 10
OVERRIDES = ("sampler.num_iterations=2", "sampler.num_denoise_steps=2", "limits.upload_mb=1")
VALUES = [None, True, -1, 10**30, 1.5, 1e300, float("nan"), "x", "", [], {}, [[[]]], ["x", 1],
          {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, {"id": "../x"},
          {"path": "http://127.0.0.1/", "meta": {"_type": "gradio.FileData"}}]  # fmt: skip
PATHS = [
    "/", "/config", "/login", "/monitoring", "/gradio_api/info", "/gradio_api/run/predict",
    "/gradio_api/api/predict", "/gradio_api/call/predict", "/gradio_api/queue/join",
    "/gradio_api/queue/data?session_hash=x", "/gradio_api/cancel", "/gradio_api/reset",
    "/gradio_api/upload", "/gradio_api/component_server", "/gradio_api/process_recording",
    "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd", "/static/../../etc/passwd",
    "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/file=http://127.0.0.1/", "/assets/%2e%2e/x",
    "/gradio_api/stream/x", "/?deep_link=../../x", "/gradio_api/heartbeat/../x",
]  # fmt: skip
HEADERS = [
    {"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"},
    {"x-forwarded-host": "evil.example"}, {"x-forwarded-host": "\x7f%"}, {"cookie": "=;=;"},
    {"x-gradio-server": "x"}, {"range": "bytes=9-1"}, {"content-type": "multipart/form-data"},
    {"transfer-encoding": "gzip"}, {"accept-encoding": "br;q=x"}, {"authorization": "Basic x"},
]  # fmt: skip
RAW = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"POST /gradio_api/upload HTTP/1.1\r\nHost: HERE\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /gradio_api/cancel HTTP/1.1\r\nHost: HERE\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01",
    b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: HERE\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]


class Attacker:
    """One hostile client: a page of its own, on which it does whatever comes to its mind."""

    def __init__(self, address: str, seed: int, config: dict[str, Any]) -> None:
        self.address = address
        self.draw = random.Random(seed)
        self.statuses: Counter[int] = Counter()
        self.client = httpx.Client(base_url=address, timeout=60)
        self.page = PageClient(self.client, config)
        self.client.timeout = 5

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        actions = [self.ask, self.ask, self.call, self.call, self.send, self.leave, self.talk]
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError, OSError):
                response = self.draw.choice(actions)(self.page)
                if response is not None:
                    self.statuses[response.status_code] += 1

    def ask(self, page: PageClient) -> Any:
        """Any path, with any method, header and body."""
        bodies: list[Any] = [
            b"",
            b"{",
            b"[" * 10_000,
            b"\xff",
            b"x" * 300_000,
            b'{"session_hash": 1}',
        ]
        return self.client.request(
            self.draw.choice(["GET", "POST", "PUT", "OPTIONS", "DELETE"]),
            self.draw.choice(PATHS),
            headers=self.draw.choice([{}, *HEADERS]),
            content=self.draw.choice(bodies),
        )

    def call(self, page: PageClient) -> Any:
        """A call of the page with some values replaced, sometimes cancelled or waited for."""
        listener = self.draw.choice([one for one in page.listeners if one["backend_fn"]])
        data = page.values(listener, Iterations=1, Variants=1, Pictures=2)
        for place in range(len(data)):
            if self.draw.random() < 0.2:
                data[place] = self.draw.choice(VALUES)
        data = data[: self.draw.choice([len(data)] * 5 + [0, 1])]
        event = {"index": self.draw.choice([0, 1, -1, 10**9, "x"])}
        response = page.join(listener, data, event_data=self.draw.choice([None, event, "x"]))
        if response.status_code == 200:
            identity = response.json()["event_id"]
            call = {"fn_index": listener["id"], "event_id": identity, "session_hash": page.session}
            if self.draw.random() < 0.5:
                self.client.post("/gradio_api/cancel", json=call)
            if self.draw.random() < 0.5:
                with contextlib.suppress(httpx.ReadTimeout):
                    path = f"/gradio_api/queue/data?session_hash={page.session}"
                    with self.client.stream("GET", path, timeout=self.draw.choice([0.1, 1])) as s:
                        for _ in s.iter_lines():
                            if self.draw.random() < 0.1:
                                break
        return response

    def send(self, page: PageClient) -> Any:
        """An upload: good, bad, or too large."""
        content = self.draw.choice(
            [photo(self.draw.randrange(100), 200, 200), b"\x89PNG" + b"x" * 2**19, b"x", b"",
             b"BM" + b"x" * 2**21]
        )  # fmt: skip
        kind = self.draw.choice(["image/png", "text/html", "application/octet-stream", ""])
        name = self.draw.choice(["a.png", "../../a.png", "a" * 5000, "", "\0", "a.html"])
        return self.client.post("/gradio_api/upload", files={"files": (name, content, kind)})

    def leave(self, page: PageClient) -> Any:
        """Open the heartbeat of the page, and hang up."""
        with (
            contextlib.suppress(httpx.ReadTimeout),
            self.client.stream("GET", f"/gradio_api/heartbeat/{page.session}", timeout=0.2) as s,
        ):
            return s if next(s.iter_lines(), None) is None else None

    def talk(self, page: PageClient) -> Any:
        """Bytes that are not a request, or half of one."""
        host, port = self.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=1) as connection:
            raw = self.draw.choice(RAW).replace(b"HERE", f"{host}:{port}".encode())
            connection.sendall(raw[: self.draw.choice([len(raw), len(raw) // 2])])
            with contextlib.suppress(TimeoutError):
                connection.recv(100)


def attack(attackers: list[Attacker], seconds: float) -> Counter[int]:
    """All of them at once; returns how often the app answered with which status."""
    threads = [threading.Thread(target=one.run, args=(seconds,)) for one in attackers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum((one.statuses for one in attackers), Counter())


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def test_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps serving, forgets its attackers, and leaves nothing behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    model = pipeline.save_pretrained(tmp_path / "model")
    with serving(tmp_path, f"pretrained={model}", *OVERRIDES) as (address, log, process):
        with httpx.Client(base_url=address, timeout=60) as client:
            config = PageClient(client).config
        attackers = [Attacker(address, seed, config) for seed in range(CLIENTS)]
        attack(attackers, SECONDS / 2)  # the app reaches the size that it needs
        before = resident_mb(process.pid)
        statuses = attack(attackers, SECONDS)
        for one in attackers:
            one.client.close()
        after = resident_mb(process.pid)
        assert {200, 400, 403, 404, 413, 415, 422} <= statuses.keys()
        assert statuses[500] == 0, log.read_text()[-3000:]
        # A visitor like any other is served as before.
        with httpx.Client(base_url=address, timeout=60) as client:
            page = PageClient(client, config)
            listener = page.listener("Run")
            assert page.call(listener, page.values(listener))["success"]
        (private,) = temporary.glob("bigr-app-*")
        assert private.stat().st_mode & 0o777 == 0o700
    assert process.returncode == 0
    assert list(temporary.iterdir()) == []
    text = log.read_text()
    assert "Traceback" not in text, text[text.index("Traceback") :][:3000]
    (tmp_path / "counts.txt").write_text(f"{before:.0f} MB, {after:.0f} MB, {statuses}")
    assert after < 1.1 * before, (before, after, statuses)
