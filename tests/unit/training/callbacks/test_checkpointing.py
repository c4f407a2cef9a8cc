"""When checkpoints are saved, and which are kept."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import hydra
import hydra.utils
import lightning
import pytest
from lightning.pytorch.callbacks import LearningRateMonitor

from bigr.cli.configuration import config_dir, register_resolvers
from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.checkpoint_files import find_checkpoint, saved_checkpoints, step_of
from bigr.training.loggers import ResumableCSVLogger, read_rows
from bigr.training.stopping import Stopped
from tests.tiny_training import LinearModule, QuadraticModule, tiny_trainer


def steps_after(folder: Path, max_steps: int, *callbacks: Any, **settings: Any) -> list[int]:
    saver = Checkpoints(str(folder), **{"every_minutes": None, **settings})
    tiny_trainer(max_steps, saver, *callbacks, enable_checkpointing=True).fit(LinearModule())
    return [step_of(path) for path in saved_checkpoints(folder)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every_n_steps": 2, "keep_last": None}, [7, 6, 4, 2]),
        ({"every_n_steps": 2, "keep_last": 1}, [7]),
        ({"every_n_steps": 1, "keep_last": 2, "keep_every_n_steps": 3}, [7, 6, 3]),
        ({}, [7]),
    ],
)
def test_what_is_kept(tmp_path: Path, settings: dict[str, Any], expected: list[int]) -> None:
    assert steps_after(tmp_path, 7, **settings) == expected


def test_an_exception_between_two_steps_saves(tmp_path: Path) -> None:
    class Fail(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 3:
                raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        steps_after(tmp_path, 7, Fail())
    assert [step_of(path) for path in saved_checkpoints(tmp_path)] == [3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_last": 0}, r"Checkpoints\.keep_last must be a positive integer or null, got 0"),
        ({"every_minutes": -1.0}, r"every_minutes must be a positive number or null, got -1\.0"),
        ({"every_n_steps": True}, r"every_n_steps must be a positive integer or null, got true"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Checkpoints("x", **settings)


class Ask(lightning.Callback):
    """Sends this process a signal before a step."""

    def __init__(self, step: int, signum: int) -> None:
        self.step = step
        self.signum = signum

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.signum)


def train(folder: Path, max_steps: int = 14, *callbacks: Any, **settings: Any) -> None:
    """Train from the newest checkpoint in ``folder``: 6 batches an epoch, validated every 4."""
    newest = find_checkpoint("auto", folder)
    trainer = tiny_trainer(
        max_steps,
        *callbacks,
        Checkpoints(str(folder), every_minutes=None),
        LearningRateMonitor(logging_interval="step"),
        **{"limit_val_batches": 2, "val_check_interval": 4, "check_val_every_n_epoch": None},
        **settings,
        enable_checkpointing=True,
        log_every_n_steps=1,
        logger=ResumableCSVLogger(str(folder)),
    )
    trainer.fit(QuadraticModule(), ckpt_path=newest, weights_only=True)


def rows(folder: Path) -> list[dict[str, str]]:
    return read_rows(folder / "csv" / "metrics.csv")[1]


def test_every_step_is_logged_once(tmp_path: Path) -> None:
    train(tmp_path)
    found = [(row["step"], row["epoch"]) for row in rows(tmp_path) if row["train/loss"]]
    assert found == [(str(step), str(step // 6)) for step in range(14)]
    assert [row["step"] for row in rows(tmp_path) if row["val/loss"]] == ["3", "7", "11"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("stops", [(2, 3), (5,), (3, 11), (7, 9, 11)])
def test_stopped_runs_log_the_same(
    tmp_path: Path, signum: signal.Signals, stops: tuple[int, ...]
) -> None:
    """Also if the signal comes in the last step before a validation, or of an epoch."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run with nohup
    train(tmp_path / "alone")
    for stop in stops:
        with pytest.raises(Stopped):
            train(tmp_path / "run", 14, Ask(stop, signum))
        assert step_of(saved_checkpoints(tmp_path / "run")[0]) == stop + 1
    train(tmp_path / "run")
    assert rows(tmp_path / "run") == rows(tmp_path / "alone")


@pytest.mark.parametrize("ends", [(6,), (4, 12), (5, 9), (3, 6, 7)])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_runs_that_get_more_steps_log_the_same(
    tmp_path: Path, ends: tuple[int, ...], accumulated: int
) -> None:
    """A run that has reached ``max_steps`` within an epoch has not finished that epoch."""
    settings = {"accumulate_grad_batches": accumulated}
    train(tmp_path / "alone", **settings)
    for end in (*ends, 14):
        train(tmp_path / "run", end, **settings)
    assert rows(tmp_path / "run") == rows(tmp_path / "alone")


def test_damaged_newer_ones_do_not_push_out_intact_ones(tmp_path: Path) -> None:
    """A run that resumed from an older checkpoint keeps its own."""
    damaged = tmp_path / "step_00000100.ckpt"
    damaged.write_bytes(b"damaged")
    assert steps_after(tmp_path, 7, every_n_steps=2, keep_last=1) == [100, 7]
    assert damaged.read_bytes() == b"damaged"


def test_null_on_the_command_line_keeps_all(tmp_path: Path) -> None:
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        words = ["experiment=digits_generator", "callbacks.checkpoint.keep_last=null"]
        words += ["callbacks.checkpoint.every_n_steps=2", f"paths.output={tmp_path}"]
        config = hydra.compose("train", words)
        saver = hydra.utils.instantiate(config.callbacks.checkpoint)
    trainer = tiny_trainer(7, saver, enable_checkpointing=True)
    trainer.fit(LinearModule())
    found = saved_checkpoints(tmp_path / "checkpoints")
    assert [step_of(path) for path in found] == [7, 6, 4, 2]
