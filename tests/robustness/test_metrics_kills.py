"""Runs that are killed at any write leave the metrics of a run that was left alone."""

from __future__ import annotations

import csv
import os
import random
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor

from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.checkpoint_files import find_checkpoint, newest_whole
from bigr.training.loggers import ResumableCSVLogger
from tests.tiny_training import QuadraticModule, tiny_trainer

STEPS = 24
KILLS = 10
"""In each of the cases."""
KILLED = 9
WRITES = ("os.rename", "os.remove", "os.truncate")
CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

CASES: dict[str, dict[str, Any]] = {
    "every 4 batches": {"val_check_interval": 4, "check_val_every_n_epoch": None},
    "every epoch": {"check_val_every_n_epoch": 1},
    "accumulated": {"accumulate_grad_batches": 2, "val_check_interval": 2},
    "manual": {"val_check_interval": 3, "is_manual": True},
}


def train(folder: Path, *, is_manual: bool = False, **settings: Any) -> None:
    """Train to the end, from the newest checkpoint if there is one."""
    trainer = tiny_trainer(
        STEPS,
        Checkpoints(str(folder), every_n_steps=1, every_minutes=None, keep_last=2),
        LearningRateMonitor(logging_interval="step"),
        **{"val_check_interval": 1.0, **settings},
        limit_val_batches=3,
        enable_checkpointing=True,
        log_every_n_steps=1,
        logger=ResumableCSVLogger(str(folder)),
    )
    module = QuadraticModule(is_manual=is_manual)
    trainer.fit(module, ckpt_path=find_checkpoint("auto", folder), weights_only=True)


def die_at(write: int, folder: Path) -> None:
    """End this process without any cleanup before the ``write``-th time it changes ``folder``."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        is_write = event in WRITES or (event == "open" and arguments[2] & CHANGES)
        if is_write and str(arguments[0]).startswith(str(folder)):
            count += 1
            if count == write:
                os._exit(KILLED)

    sys.addaudithook(hook)


def in_child(function: Callable[[], object]) -> int:
    """Return the exit code of a forked process that calls ``function``."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(folder: Path) -> torch.Tensor:
    path = newest_whole(folder)
    assert path is not None
    found: torch.Tensor = torch.load(path, weights_only=True)["state_dict"]["weight"]
    return found


@pytest.mark.parametrize("name", CASES)
def test_no_row_is_lost(tmp_path: Path, name: str) -> None:
    settings, chance = CASES[name], random.Random(name)
    alone, run = tmp_path / "alone", tmp_path / "run"
    assert in_child(lambda: train(alone, **settings)) == 0
    kills, code = 0, KILLED
    while code == KILLED:
        # Few writes at a time at first, so that there are enough kills; then it may finish.
        write = chance.randint(2, 16) if kills < KILLS else 10_000

        def start(write: int = write) -> None:
            die_at(write, run)
            train(run, **settings)

        code = in_child(start)
        kills += code == KILLED
    assert code == 0
    assert kills == KILLS
    assert rows(run) == rows(alone)
    assert torch.equal(weights(run), weights(alone))
    # What is compared is complete.
    by_step = [row["step"] for row in rows(alone) if row["train/loss"]]
    assert by_step == [str(step) for step in range(STEPS)]
    assert sum(bool(row["val/loss"]) for row in rows(alone)) >= 2
