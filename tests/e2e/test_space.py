"""``examples/space``: the files of a Hugging Face Space, which serve the app under its name."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY
from tests.processes import environment

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

SPACE = REPOSITORY / "examples" / "space"
START_SECONDS = 120


def test_the_space_serves_the_app(tmp_path: Path) -> None:
    """As a proxy asks for it: with the name of the Space, which is shown in a frame."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    named = {"PORT": str(port), "SPACE_HOST": "lab-bigr.hf.space"}
    log = tmp_path / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, SPACE / "app.py"], cwd=tmp_path, env=environment(**named),
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        response = None
        while response is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                response = httpx.get(
                    f"http://127.0.0.1:{port}/", headers={"host": "lab-bigr.hf.space"}, timeout=60
                )
            time.sleep(0.2)
        assert response.status_code == 200
        assert response.headers["content-security-policy"].endswith(" https://huggingface.co")
        assert "digits: " in response.text
        other = httpx.get(f"http://127.0.0.1:{port}/", headers={"host": "evil.example"})
        assert other.status_code == 403
    finally:
        process.terminate()
        process.wait(60)


def test_the_metadata_name_tested_versions() -> None:
    """The version of Gradio that was tested, and extras that exist."""
    _, header, _ = (SPACE / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(header)
    pins = (REPOSITORY / "constraints.txt").read_text()
    assert f"\ngradio=={metadata['sdk_version']}\n" in pins
    assert (SPACE / metadata["app_file"]).is_file()
    assert len(metadata["short_description"]) <= 60  # the most that the hub accepts
    lines = (SPACE / "requirements.txt").read_text().splitlines()
    (requirement,) = (Requirement(line) for line in lines if not line.startswith("#"))
    extras = re.findall(r"^(\w+) = \[", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert requirement.extras <= set(extras)
