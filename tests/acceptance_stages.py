"""Stages of an acceptance run that go wrong in every way that a stage can."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from bench.acceptance.plan import Stage


def fine(context: Any) -> dict[str, Any]:
    return {"number": 1 / 3, "device": "a | device", "is_right": True}


def untrue(context: Any) -> dict[str, Any]:
    return {"number": 2.0, "is_right": False}


def raises(context: Any) -> dict[str, Any]:
    raise RuntimeError("first line\nsecond line")


def crashes(context: Any) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def sleeps(context: Any) -> dict[str, Any]:
    time.sleep(60)
    return {}


def deaf(context: Any) -> dict[str, Any]:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(60)
    return {}


def knows(context: Any) -> dict[str, Any]:
    return {
        "earlier": ", ".join(sorted(context.results)),
        "third": context.results["fine"]["number"],
    }


def stage(name: str, seconds: float = 30.0) -> Stage:
    return Stage(name, seconds, f"tests.acceptance_stages:{name}", f"About {name}")
