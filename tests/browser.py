"""Debian's Chromium, driven by Playwright, and an app of this project to be looked at."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.processes import environment

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 300  # on a busy machine, which also takes long to stop


def require_chromium() -> None:
    """Skip without Chromium; CI says with ``BIGR_BROWSER=1`` that it has to be there."""
    if not shutil.which(CHROMIUM):
        reason = f"no {CHROMIUM}: apt-get install chromium"
        if os.environ.get("BIGR_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A headless browser with an empty profile."""
    require_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


class Served(NamedTuple):
    """A running app."""

    address: str
    log: Path
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def serving(cwd: Path, *overrides: str) -> Iterator[Served]:
    """``python -m bigr.demo`` on a free port, until SIGTERM."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = cwd / "demo.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "bigr.demo", f"port={port}", *overrides],
            cwd=cwd,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(START_SECONDS * 2):
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError):
                urllib.request.urlopen(address, timeout=1)
                break
            time.sleep(0.5)
        else:
            pytest.fail(f"no answer after {START_SECONDS} s: {log.read_text()}")
        yield Served(address, log, process)
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(START_SECONDS)
