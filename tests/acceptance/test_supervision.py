"""The acceptance run goes on after any failure, and an interruption loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.acceptance import supervision
from bench.acceptance.page import page
from bench.acceptance.supervision import supervise
from tests.acceptance_stages import stage

ROOT = Path(__file__).parents[2]


def stored(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


def test_every_kind_of_failure_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervision, "GRACE", 4.0)
    names = ("fine", "untrue", "raises", "crashes", "sleeps", "deaf", "knows")
    stages = [stage(name, 1.0 if name in ("sleeps", "deaf") else 30) for name in names]
    lines = supervise(stages, device="cpu", is_tiny=True, limit=300, out=tmp_path)
    found = {line["stage"]: line for line in lines}
    assert list(found) == list(names)
    assert found["fine"]["status"] == "ok"
    assert found["fine"]["values"] == {"number": 0.3333, "device": "a | device", "is_right": True}
    errors = {name: line["error"] for name, line in found.items() if line["status"] == "failed"}
    assert errors == {
        "untrue": "not true: is_right",
        "raises": "RuntimeError: first line",
        "crashes": "the process ended: SIGSEGV",
        "sleeps": "StageTimeoutError: the time of this stage is over",
        "deaf": "the process ended: it did not answer within 5 s",
    }
    # A worker that replaces a dead one knows what was found before.
    assert found["knows"]["values"]["earlier"] == "fine, raises, sleeps, untrue"
    assert found["knows"]["values"]["third"] == 0.3333
    assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == lines
    content = stored(tmp_path)
    assert content["stages"] == lines
    (path,) = tmp_path.glob("*-a-device-tiny.md")
    assert path.read_text() == page(content, stages)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu(tmp_path: Path) -> None:
    """Each stage says what is missing."""
    lines = supervise(
        [stage("fine"), stage("knows")], device="cuda", is_tiny=False, limit=300, out=tmp_path
    )
    expected = (
        f"RuntimeError: PyTorch {torch.__version__} finds no CUDA GPU: check its driver, or try "
        "this run on the CPU with --tiny."
    )
    assert [line["error"] for line in lines] == [expected, expected]


def test_stages_after_the_end_of_the_time_are_skipped(tmp_path: Path) -> None:
    lines = supervise(
        [stage("sleeps"), stage("fine")], device="cpu", is_tiny=True, limit=0.2, out=tmp_path
    )
    assert [line["status"] for line in lines] == ["failed", "skipped"]
    assert all("the time of the whole run was over" in line["error"] for line in lines)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_interruption_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """The supervisor is killed in the second stage: the first one is saved, the worker ends."""
    program = (
        "import signal, sys; from pathlib import Path\n"
        "from bench.acceptance.supervision import supervise\n"
        "from tests.acceptance_stages import stage\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "supervise([stage('fine'), stage('sleeps', 60)], device='cpu', is_tiny=False, limit=300,"
        f" out=Path({str(tmp_path)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["stage"] == "fine"
        workers = children(process.pid)
        assert workers
        process.send_signal(number)
        process.wait(30)
    assert [line["stage"] for line in stored(tmp_path)["stages"]] == ["fine"]
    text = next(tmp_path.glob("*.md")).read_text()
    assert "| sleeps | not run |" in text
    assert "| sampling_l_8 | speedup_over_float32 | at least 10 | not measured |" in text
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


def children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return list(map(int, found.split()))


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_page() -> None:
    """Failed and missing stages come first, and goals are judged in the right direction."""
    lines = [
        {"stage": "fine", "status": "ok", "seconds": 1.0, "values": {"device": "GPU", "a|b": True}},
        {"stage": "raises", "status": "failed", "seconds": 1.0, "values": {}, "error": "a | <b>"},
        {"stage": "fid_50k", "status": "ok", "seconds": 1.0, "values": {"minutes": 40.0}},
        {"stage": "sampling_l_64", "status": "ok", "seconds": 1.0,
         "values": {"speedup_over_float32": 5.5, "share_of_floor": 0.6}},
    ]  # fmt: skip
    content = {"date": "2026-01-02", "is_tiny": False, "seconds": 4.0, "stages": lines}
    names = ("fine", "raises", "sleeps", "fid_50k", "sampling_l_64")
    text = page(content, [stage(name) for name in names])
    assert "3 of 5 stages succeeded in 4 s." in text
    assert "| raises | failed: a \\| &lt;b> |" in text
    assert "| sleeps | not run |" in text
    assert "| a\\|b | yes |" in text
    assert "| fid_50k | minutes | at most 50 | 40, reached |" in text
    assert "| sampling_l_64 | speedup_over_float32 | at least 6 | 5.5, not reached |" in text
    assert "| sampling_l_64 | share_of_floor | at least 0.5 | 0.6, reached |" in text
    assert "tiny" not in text
    tiny = page({**content, "is_tiny": True}, [])
    assert "tiny networks" in tiny
    assert "## Goals" not in tiny
