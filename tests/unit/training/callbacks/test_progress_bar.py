"""The progress bar of training, and the lines that stand for it where there is no terminal."""

from __future__ import annotations

import functools
import io
import logging
import re
import sys
from typing import Any

import pytest
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from bigr import BiGRConfig
from bigr.training.callbacks.progress_bar import RunProgressBar
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.models import TINY
from tests.tiny_training import LinearModule, PairsDataModule, tiny_trainer


def test_a_line_at_each_part_of_the_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    tiny_trainer(8, RunProgressBar(num_lines=4), enable_progress_bar=True).fit(LinearModule())
    lines = [line for line in caplog.messages if line.startswith("step ")]
    assert [line.split(",")[0] for line in lines] == [
        "step 2/8",
        "step 4/8",
        "step 6/8",
        "step 8/8",
    ]
    assert all(re.search(r" steps/s, .*train/loss \d+\.\d{3}$", line) for line in lines)
    assert [" left, " in line for line in lines] == [True, True, True, False]


def test_metrics_that_the_module_names(caplog: pytest.LogCaptureFixture) -> None:
    """A generator does not log them for the progress bar, for which Lightning reads every step."""
    caplog.set_level("INFO")
    module = GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3))
    trainer = tiny_trainer(2, RunProgressBar(num_lines=1), enable_progress_bar=True)
    trainer.fit(module, datamodule=PairsDataModule("codes"))
    (line,) = [line for line in caplog.messages if line.startswith("step ")]
    loss, accuracy = (
        float(trainer.callback_metrics[f"train/{name}"]) for name in ("loss", "bit_accuracy")
    )
    assert line.endswith(f"train/loss {loss:.3f}, train/bit_accuracy {accuracy:.3f}")
    assert trainer.progress_bar_metrics == {}


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What is shown in the end; text after a carriage return replaces that before it."""
        shown = []
        for line in self.getvalue().split("\n"):
            row = ""
            for part in line.split("\r"):
                row = part + row[len(part) :]
            shown.append(row.rstrip())
        return shown


class LogTwice(Callback):
    """Logs a line before the first step, and one after the second step."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logging.getLogger("bigr").warning("the plan")

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            logging.getLogger("bigr").warning("a long line about the second step")


def test_log_lines_appear_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer(4, RunProgressBar(), LogTwice(), enable_progress_bar=True)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    monkeypatch.setattr(logging.root, "handlers", [handler])
    trainer.fit(LinearModule())
    assert terminal.lines[:2] == ["the plan", "a long line about the second step"]
    (bar,) = [line for line in terminal.lines if "/4 [" in line]
    assert " 4/4 [" in bar
    assert logging.root.handlers == [handler]


def test_other_processes_write_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bar = RunProgressBar(num_lines=4)
    trainer = tiny_trainer(4, bar, enable_progress_bar=True)
    bar.disable()  # as Lightning does on all processes but the first
    trainer.fit(LinearModule())
    assert not [line for line in caplog.messages if line.startswith("step ")]


def test_batches_that_are_accumulated(caplog: pytest.LogCaptureFixture) -> None:
    """The first batch ends before the first step of the optimiser, which has no speed yet."""
    caplog.set_level("INFO")
    bar = RunProgressBar(num_lines=2)
    tiny_trainer(2, bar, enable_progress_bar=True, accumulate_grad_batches=2).fit(LinearModule())
    lines = [line for line in caplog.messages if line.startswith("step ")]
    assert [line.split(",")[0] for line in lines] == ["step 1/2", "step 2/2"]
