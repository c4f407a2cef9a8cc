"""One progress bar for the whole run, with the figures that are logged for it."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from tqdm import tqdm

log = logging.getLogger(__name__)


class ProgressBar(LightningProgressBar):
    """Optimiser steps of the run, time left, loss and bit accuracy.

    Where the output isn't a terminal, a line at every tenth of the run instead.

    Args:
        num_lines: how many lines that makes.
    """

    def __init__(self, num_lines: int = 10) -> None:
        super().__init__()
        self.num_lines = num_lines
        self._bar: tqdm[Any] | None = None
        self._is_enabled = True
        self._started = 0.0
        self._first = 0
        self._last = -1

    def disable(self) -> None:
        """Called by Lightning on all processes but the first."""
        self._is_enabled = False

    def enable(self) -> None:
        """The opposite."""
        self._is_enabled = True

    def on_train_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
    ) -> None:
        """Open the bar at the step that a resumed run continues from."""
        self._first = trainer.global_step
        self._started = time.monotonic()
        if self._is_enabled and sys.stderr.isatty():
            total = self._total(trainer)
            self._bar = tqdm(total=total, initial=self._first, unit="step", dynamic_ncols=True)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Move on."""
        step, total = trainer.global_step, self._total(trainer)
        if step == self._last:  # a batch of an accumulation
            return
        self._last = step
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            if step % 10 == 0 or step == total:  # reading the figures waits for the device
                self._bar.set_postfix_str(self._figures(trainer, pl_module))
        elif (
            self._is_enabled
            and total
            and step * self.num_lines // total != ((step - 1) * self.num_lines // total)
        ):
            rate = (step - self._first) / max(1e-9, time.monotonic() - self._started)
            figures = self._figures(trainer, pl_module)
            log.info("step %d/%d, %.1f steps/s, %s", step, total, rate, figures)

    def teardown(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
        stage: str,  # noqa: ARG002
    ) -> None:
        """Close the bar, also after an exception."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _total(self, trainer: lightning.Trainer) -> int | None:
        total = trainer.estimated_stepping_batches
        return None if total == float("inf") else int(total)

    def _figures(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> str:
        figures = self.get_metrics(trainer, pl_module)
        named = {name: value for name, value in figures.items() if isinstance(value, float)}
        return ", ".join(f"{name} {value:.3f}" for name, value in named.items())
