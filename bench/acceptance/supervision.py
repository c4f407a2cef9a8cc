"""Starts the workers, enforces time limits, and writes down each result at once.

This module does not import torch: whatever happens to the GPU, it stays alive.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.acceptance.page import page
from bench.acceptance.plan import Stage

GRACE = 20.0
"""A worker is killed if it does not end a stage so many seconds after its time is over."""
START = 60.0
"""Seconds for the start of a worker, in addition to its first stage."""
ENTRY = Path(__file__).parents[1] / "gpu.py"

Line = dict[str, Any]


def supervise(
    stages: Sequence[Stage], *, device: str, is_tiny: bool, limit: float, out: Path
) -> list[Line]:
    """Run ``stages``, print a line of JSON about each, and save them all after each of them.

    Args:
        stages: what to run, most important first.
        device: such as ``cuda`` or ``cpu``.
        is_tiny: whether to use tiny networks.
        limit: seconds after which the remaining stages are skipped.
        out: folder of the results and of their page.

    Returns:
        One line for each stage, with its name, status (``ok``, ``failed`` or ``skipped``), seconds,
        values and error.
    """
    began, lines = time.monotonic(), list[Line]()
    day = datetime.now(timezone.utc).date().isoformat()
    out.mkdir(parents=True, exist_ok=True)
    for line in _lines(stages, device, is_tiny, began + limit):
        lines.append(line)
        about = {"date": day, "is_tiny": is_tiny, "seconds": round(time.monotonic() - began, 1)}
        # A printed line has been saved already, even if this process is killed right after it.
        _save(out, {**about, "stages": lines}, stages)
        print(json.dumps(line), flush=True)
    return lines


def _lines(stages: Sequence[Stage], device: str, is_tiny: bool, deadline: float) -> Iterator[Line]:
    """Yield the line of each stage; a worker that dies is followed by one for the rest."""
    left, values = list(stages), dict[str, Any]()
    while left:
        order = {"stages": left, "device": device, "is_tiny": is_tiny, "results": values}
        with _Worker(order) as worker:
            extra = START
            while left:
                stage, started = left[0], time.monotonic()
                patience = min(stage.seconds + GRACE + extra, deadline - started)
                line = worker.next_line(max(0.0, patience))
                if line is None:
                    break
                values[stage.name], extra = line["values"], 0.0
                yield line
                left.pop(0)
        if left:  # the worker is dead now
            seconds = round(time.monotonic() - started, 3)
            is_over = time.monotonic() >= deadline
            why = worker.end if not is_over else "the time of the whole run was over"
            yield _line(left.pop(0).name, "failed", seconds, f"the process ended: {why}")
            if is_over:
                break
    for stage in left:
        yield _line(stage.name, "skipped", 0.0, "the time of the whole run was over")


def _line(name: str, status: str, seconds: float, error: str) -> Line:
    return {"stage": name, "status": status, "values": {}, "error": error, "seconds": seconds}


class _Worker:
    """A process of :mod:`bench.acceptance.worker`, which is killed at the end of the block."""

    def __init__(self, order: dict[str, Any]) -> None:
        command = [sys.executable, str(ENTRY), "--worker", json.dumps(order)]
        if sys.flags.no_site:
            command.insert(1, "-S")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.found: queue.Queue[str | None] = queue.Queue()
        self.end = ""
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        status = self.process.wait()
        self.end = self.end or f"exit status {status}"

    def next_line(self, seconds: float) -> Line | None:
        """Return the next result, or None if the process has ended or takes longer."""
        try:
            text = self.found.get(timeout=seconds)
        except queue.Empty:
            self.end = f"it did not answer within {seconds:.0f} s"
            return None
        if text is None:
            status = self.process.wait()
            name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            self.end = name
            return None
        line: Line = json.loads(text)
        return line

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.found.put(text)
        self.found.put(None)


def _save(out: Path, content: dict[str, Any], stages: Sequence[Stage]) -> None:
    """Replace the files of this run."""
    values = next((line["values"] for line in content["stages"] if line["values"]), {})
    name = str(values.get("device", "unknown"))
    slug = "-".join(re.findall(r"[a-z0-9]+", name.lower()))
    if content["is_tiny"]:
        slug += "-tiny"
    path = out / f"{content['date']}-{slug}.json"
    _replace(path, json.dumps(content, indent=1) + "\n")
    _replace(path.with_suffix(".md"), page(content, stages))


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
