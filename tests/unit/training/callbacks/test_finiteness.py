"""Weights and metrics that are not finite end a run, and are not saved."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.callbacks.finiteness import NotFiniteError, StopIfNotFinite
from bigr.training.checkpoint_files import saved_checkpoints, step_of
from tests.tiny_training import QuadraticModule, tiny_trainer


class Spoil(lightning.Callback):
    """Makes the weights useless at a step."""

    def __init__(self, step: int, value: float) -> None:
        self.step = step
        self.value = value

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            with torch.no_grad():
                pl_module.weight[1] = self.value


def saved_steps(folder: Path, *callbacks: lightning.Callback, **settings: Any) -> list[int]:
    saver = Checkpoints(str(folder), every_minutes=None, **{"every_n_steps": 1, "keep_last": 2})
    validation = {"val_check_interval": 4, "check_val_every_n_epoch": None, "limit_val_batches": 3}
    trainer = tiny_trainer(
        7, *callbacks, StopIfNotFinite(), saver, enable_checkpointing=True, **validation
    )
    try:
        trainer.fit(QuadraticModule(**settings))
    finally:
        steps = [step_of(path) for path in saved_checkpoints(folder)]
    return steps


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_spoilt_weights_are_not_saved(tmp_path: Path, value: float) -> None:
    with pytest.raises(NotFiniteError, match=r"weights are not finite \(weight\) at step 3"):
        saved_steps(tmp_path, Spoil(3, value))
    assert [step_of(path) for path in saved_checkpoints(tmp_path)] == [2, 1]


def test_a_nan_of_validation_stops(tmp_path: Path) -> None:
    """The weights are finite, but of no use: they neither replace a checkpoint nor are saved."""

    class Overflow(lightning.Callback):
        def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            pl_module.log("val/other", torch.tensor(float("nan")), batch_size=1)

    with pytest.raises(NotFiniteError, match="val/other became NaN at step 4"):
        saved_steps(tmp_path, Overflow())
    assert [step_of(path) for path in saved_checkpoints(tmp_path)] == [4, 3]


def test_an_infinite_metric_is_only_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Perfect(lightning.Callback):
        def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            pl_module.log("val/psnr", torch.tensor(float("inf")), batch_size=1)

    with caplog.at_level(logging.WARNING):
        assert saved_steps(tmp_path, Perfect()) == [7, 6]
    assert "val/psnr is infinite at step 4" in caplog.text


def test_nothing_is_exported_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"not finite \(weight\) at step 3"):
        tiny_trainer(3, Spoil(3, float("nan")), StopIfNotFinite()).fit(QuadraticModule())
