"""Requeueing, with a program in the place of scontrol."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigr.training.slurm import requeue_job, slurm_plugins

NAMES = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that writes down its arguments; job 13 does not exist."""
    program = tmp_path / "scontrol"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        'if [ "$2" = 13 ]; then echo "Invalid job id" >&2; exit 1; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "calls"


def test_jobs_and_array_tasks(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    requeue_job()
    assert not scontrol.exists(), "this is no job"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    requeue_job()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    requeue_job()
    assert scontrol.read_text().splitlines() == ["requeue 7", "requeue 5_2"]
    assert "SLURM job 5_2 is requeued" in caplog.text


def test_a_failure_is_logged(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    requeue_job()
    assert "SLURM job 13 could not be requeued: Invalid job id" in caplog.text
    (scontrol.parent / "scontrol").unlink()
    monkeypatch.setenv("PATH", str(scontrol.parent))  # a SLURM of this machine is not found
    requeue_job()
    assert "No such file" in caplog.text


def test_no_plugin_outside_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    assert slurm_plugins() == []
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    (plugin,) = slurm_plugins()
    assert not plugin.auto_requeue
