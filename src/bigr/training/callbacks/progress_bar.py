"""The progress bar of training: one for the whole run."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bigr.inference.units import duration, speed
from bigr.schema import PositiveInt, checked

log = logging.getLogger(__name__)


class RunProgressBar(ProgressBar):
    """Shows the optimiser steps of the run, the time left, and some metrics.

    These are the metrics that the module names in ``shown_metrics``, which are read every 10 steps,
    and those that it logs with ``prog_bar=True``. Log lines appear above the bar. Without a
    terminal, the callback writes log lines at regular parts of the run instead.

    Args:
        num_lines: number of those lines.
    """

    @checked
    def __init__(self, num_lines: PositiveInt = 10) -> None:
        super().__init__()
        self.num_lines = num_lines
        self._bar: tqdm[Any] | None = None
        self._opened = contextlib.ExitStack()
        self._is_enabled = True
        self._started = 0.0
        self._first = 0
        self._last = -1

    def disable(self) -> None:
        """Turn the bar off; Lightning does this on all processes but the first."""
        self._is_enabled = False

    def enable(self) -> None:
        """Turn the bar on, which is the initial state."""
        self._is_enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar, for a resumed run at its step."""
        self._first = self._last = trainer.global_step
        self._started = time.monotonic()
        if self._is_enabled and sys.stderr.isatty():
            total = _total_steps(trainer)
            self._opened.enter_context(logging_redirect_tqdm())
            self._bar = self._opened.enter_context(
                tqdm(total=total, initial=self._first, unit="step", dynamic_ncols=True)
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar after each optimiser step, or write a line if one is due."""
        step, total = trainer.global_step, _total_steps(trainer)
        if step == self._last or not self._is_enabled:
            return
        self._last = step
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            if step % 10 == 0 or step == total:  # reading the metrics waits for the device
                self._bar.set_postfix_str(self._metrics(trainer, pl_module))
        elif total and step * self.num_lines // total != (step - 1) * self.num_lines // total:
            rate = (step - self._first) / max(1e-9, time.monotonic() - self._started)
            left = f", {duration((total - step) / rate)} left" if step < total else ""
            metrics = self._metrics(trainer, pl_module)
            log.info("step %d/%d, %s%s, %s", step, total, speed(rate, "steps"), left, metrics)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar, even after an exception."""
        self._opened.close()
        self._bar = None

    def _metrics(self, trainer: Trainer, pl_module: LightningModule) -> str:
        found = trainer.callback_metrics
        names = [name for name in getattr(pl_module, "shown_metrics", ()) if name in found]
        # Those of training come first, because a narrow terminal cuts off the last ones.
        named = {name: float(found[name]) for name in names}
        metrics = {**named, **self.get_metrics(trainer, pl_module), **named}
        shown = {name: value for name, value in metrics.items() if isinstance(value, float)}
        return ", ".join(f"{name} {value:.3f}" for name, value in shown.items())


def _total_steps(trainer: Trainer) -> int | None:
    total = trainer.estimated_stepping_batches
    return None if total == float("inf") else int(total)
