"""The log lines that replace a progress bar where there is no terminal."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

from bigr.inference import progress as module
from bigr.inference.progress import progress


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    clock = Clock()
    stream: Any = type("Pipe", (), {"isatty": lambda _: False})()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "time", clock)
    caplog.set_level(logging.INFO)
    return clock


def test_speed_leaves_out_preparations(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A classifier that is trained for four minutes before the first batch is no sampling time."""
    with progress(100, "images") as advance:
        for now, count in ((240.0, 10), (250.0, 20), (255.0, 5), (265.0, 25), (285.0, 40)):
            clock.now = now
            advance(count)
    assert caplog.messages == [
        "10/100 images",
        "30/100 images, 2 images/s, 35 s left",
        "60/100 images, 2 images/s, 20 s left",
        "100/100 images, 2 images/s",
    ]


def test_one_report(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with progress(30, "images") as advance:
        clock.now = 3.0
        advance(30)
    assert caplog.messages == ["30/30 images, 10 images/s"]


def test_unknown_total(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with progress(None, "files") as advance:
        for now, count in ((12.0, 1), (24.0, 36)):
            clock.now = now
            advance(count)
    assert caplog.messages == ["1 file", "37 files, 3 files/s"]
