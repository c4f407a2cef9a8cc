"""What a run that goes on leaves of its earlier rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bigr.training.loggers import ContinuedCSVLogger
from tests.processes import python


def start(folder: Path) -> ContinuedCSVLogger:
    logger = ContinuedCSVLogger(str(folder))
    logger.log_hyperparams({"lr": 0.1})
    return logger


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
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
