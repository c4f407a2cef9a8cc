"""One writer at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bigr.data.locks import HOLDER_FILE, LockedError, only_writer
from tests.processes import environment

HOLD = """
import pathlib, sys, time
from bigr.data.locks import only_writer
with only_writer(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of ``folder``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    process = holder(tmp_path / "run")
    try:
        with (
            pytest.raises(LockedError, match=rf"run is in use by .*\(process {process.pid} on "),
            only_writer(tmp_path / "run", wait_seconds=0.1),
        ):
            pass
    finally:
        process.kill()
        process.wait()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    process = holder(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / HOLDER_FILE).is_file()
    began = time.monotonic()
    with only_writer(tmp_path):
        assert time.monotonic() - began < 1
        assert str(os.getpid()) in (tmp_path / HOLDER_FILE).read_text()
    assert not (tmp_path / HOLDER_FILE).exists()


def test_the_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), only_writer(tmp_path):
        raise RuntimeError("stop")
    with only_writer(tmp_path, wait_seconds=0.1):
        pass


def test_a_damaged_description_does_not_matter(tmp_path: Path) -> None:
    process = holder(tmp_path)
    (tmp_path / HOLDER_FILE).write_text("[]")
    try:
        with (
            pytest.raises(LockedError, match="in use by another process"),
            only_writer(tmp_path, wait_seconds=0.1),
        ):
            pass
    finally:
        process.kill()
        process.wait()
