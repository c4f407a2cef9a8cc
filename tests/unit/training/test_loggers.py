"""What a run that goes on leaves of its earlier rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bigr.training.loggers import ResumableCSVLogger
from tests.processes import python


def start(folder: Path) -> ResumableCSVLogger:
    logger = ResumableCSVLogger(str(folder))
    logger.log_hyperparams({"lr": 0.1})
    return logger


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_goes_on_where_the_steps_do(tmp_path: Path) -> None:
    first = start(tmp_path)
    for step in (10, 20, 30):
        first.log_metrics({"loss": step / 10}, step)
    first.log_metrics({"val": 7.0}, 30)  # no goodbye: the process is killed here

    start(tmp_path)  # killed before its first step
    second = start(tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == ["10", "20", "30", "30"]
    for step in (30, 40):  # its checkpoint was of step 20
        second.log_metrics({"loss": step / 10 + 0.5}, step)
    second.log_metrics({"val": 8.0}, 40)
    assert rows(tmp_path) == [
        {"loss": "1.0", "step": "10", "val": ""},
        {"loss": "2.0", "step": "20", "val": ""},
        {"loss": "3.5", "step": "30", "val": ""},
        {"loss": "4.5", "step": "40", "val": ""},
        {"loss": "", "step": "40", "val": "8.0"},
    ]
    assert "lr: 0.1" in (tmp_path / "csv" / "hparams.yaml").read_text()


KILLED = """
import itertools, os, signal, sys
from bigr.training.loggers import ResumableCSVLogger

def log(folder, moment):
    logger = ResumableCSVLogger(folder)
    for step in range(3):
        logger.log_metrics({"loss": float(step)}, step)
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += 1
        if lines == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    logger.log_metrics({"other": 1.0}, 3)  # a new column: the whole file is written anew
    logger = ResumableCSVLogger(folder)  # and gone on with
    logger.log_metrics({"loss": 3.0}, 3)
    sys.settrace(None)

ResumableCSVLogger(sys.argv[1])  # what the check of its arguments needs is made once, here
for moment in itertools.count(1, 3):
    process = os.fork()
    if not process:
        log(f"{sys.argv[1]}/{moment:04d}", moment)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status != -signal.SIGKILL:
        sys.exit(status)
"""


def test_killed_at_every_moment(tmp_path: Path) -> None:
    """Before each third line of Python of a new header and a new start: no row is lost."""
    result = python("-c", KILLED, str(tmp_path), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folders = sorted(tmp_path.iterdir())
    assert len(folders) > 20
    for folder in folders:
        kept = rows(folder)
        assert [row["loss"] for row in kept[:3]] == ["0.0", "1.0", "2.0"], folder.name
        assert [row["step"] for row in kept] == ["0", "1", "2", "3"][: len(kept)]
    assert rows(folders[-1])[3]["loss"] == "3.0"


@pytest.mark.parametrize("torn", ["3", "30,", "3.5,30,", "3.5,30,1,2,3", "x,y,z"])
def test_a_row_that_was_not_finished(tmp_path: Path, torn: str) -> None:
    first = start(tmp_path)
    first.log_metrics({"loss": 1.0, "val": 2.0}, 10)
    path = tmp_path / "csv" / "metrics.csv"
    with path.open("a") as file:
        file.write(torn)
    start(tmp_path).log_metrics({"loss": 3.0}, 30)
    assert [(row["loss"], row["step"]) for row in rows(tmp_path)] == [("1.0", "10"), ("3.0", "30")]


@pytest.mark.parametrize("content", ["", "\0\0\0", "loss,val\n1,2\n"])
def test_a_file_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text(content)
    start(tmp_path).log_metrics({"loss": 3.0}, 30)
    assert rows(tmp_path) == [{"loss": "3.0", "step": "30"}]


UNREACHABLE = """
import sys
from bigr.training.loggers import PatientWandbLogger

logger = PatientWandbLogger(
    project="bigr", save_dir=".", id="mine", offline=False, init_timeout=2.0
)
logger.log_metrics({"loss": 1.0}, step=1)
logger.experiment.finish()
"""


def test_wandb_without_its_server_logs_offline(tmp_path: Path) -> None:
    result = python(
        *("-c", UNREACHABLE),
        cwd=tmp_path,
        WANDB_MODE="online",
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_API_KEY="0" * 40,
        WANDB_ERROR_REPORTING="false",
    )
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "wandb").glob("offline-run-*-mine-offline")
    assert list(run.glob("*.wandb"))


def test_a_resumed_run_says_where_it_continues(tmp_path: Path) -> None:
    """Rows of repeated steps go, and those that were written after the checkpoint."""
    first = start(tmp_path)
    for step in (10, 20, 20, 30):
        first.log_metrics({"loss": step / 10}, step)
    assert first.num_rows == 4
    second = start(tmp_path)
    second.continue_at(30, 2)  # the second row of step 20 is logged again
    assert second.num_rows == 2
    second.log_metrics({"loss": 2.5}, 20)
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [
        ("10", "1.0"),
        ("20", "2.0"),
        ("20", "2.5"),
    ]
    third = start(tmp_path)
    third.continue_at(20)
    assert [row["step"] for row in rows(tmp_path)] == ["10"]
    start(tmp_path / "new").continue_at(0)
    assert not (tmp_path / "new" / "csv" / "metrics.csv").exists()
