"""The callback that decides when checkpoints are saved and which ones are kept."""

from __future__ import annotations

import functools
import logging
import signal
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from bigr.schema import NonNegativeFloat, PositiveFloat, PositiveInt, checked
from bigr.training.base_module import batches_per_step
from bigr.training.callbacks.finiteness import NotFiniteError
from bigr.training.checkpoint_files import TEMPORARY, checkpoint_path, saved_checkpoints, step_of
from bigr.training.lightning_private import (
    batch_counter,
    call_between_batches,
    continue_between_batches,
    logged_step,
    skip_signal_broadcast,
)
from bigr.training.loggers import ResumableCSVLogger
from bigr.training.slurm import requeue_job
from bigr.training.stopping import AGREE_EVERY, Agreement, Stopped, StopSignals

log = logging.getLogger(__name__)

MINUTE = 60.0
POSITION = "position"
"""Key of a checkpoint: how far validation and the rows of loggers were when it was saved."""


class Checkpoints(Checkpoint):
    """Saves between two steps: every n steps or minutes, when asked to stop, and at the end.

    On SIGTERM, SIGHUP, SIGUSR1 or Ctrl-C all processes save at the same step and exit; after
    SIGUSR1 a SLURM job is requeued. An older checkpoint is removed only when a newer one is
    complete.

    Args:
        folder: where ``step_….ckpt`` are written.
        every_n_steps: optimiser steps between two checkpoints; None only counts minutes.
        every_minutes: minutes between two checkpoints; None only counts steps.
        keep_last: number of newest checkpoints that are kept; None keeps all.
        keep_every_n_steps: a checkpoint whose step is a multiple of this is never removed.
        retry_after_minutes: minutes until the next attempt if a checkpoint could not be saved.
        requeue: whether SIGUSR1 requeues a SLURM job.
    """

    @checked
    def __init__(
        self,
        folder: str,
        *,
        every_n_steps: PositiveInt | None = None,
        every_minutes: PositiveFloat | None = 15.0,
        keep_last: PositiveInt | None = 2,
        keep_every_n_steps: PositiveInt | None = None,
        retry_after_minutes: NonNegativeFloat = 5.0,
        requeue: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.keep_last = keep_last
        self.keep_every_n_steps = keep_every_n_steps
        self.retry_after_minutes = retry_after_minutes
        self.requeue = requeue
        self.signals = StopSignals()
        self._agreement: Agreement | None = None
        self._step = 0
        self._saved_step = -1
        self._due_at: float | None = None
        self._is_training = False
        self._is_answer_old = False
        self._is_due = False
        self._leaving = 0
        self._position: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers, remove incomplete files, and let a run continue exactly.

        Raises:
            ValueError: if the processes resume from different steps.
        """
        self.signals.install()
        self._is_training = True
        self._step = self._saved_step = trainer.global_step
        if trainer.is_global_zero and self.folder.is_dir():
            for left in self.folder.glob(TEMPORARY):
                left.unlink()
        self._wait(self.every_minutes)
        if trainer.world_size > 1:
            self._agreement = Agreement(pl_module.device)
            skip_signal_broadcast(trainer)
            self._compare_steps(trainer)
        call_between_batches(trainer, functools.partial(self._between_batches, trainer))
        rows: dict[str, int] = self._position.get("rows", {})
        for logger in _csv_loggers(trainer):
            logger.continue_at(logged_step(trainer), rows.get(logger.name))
        if trainer.fit_loop.is_resuming:
            validates = bool(self._position.get("validates"))
            continue_between_batches(trainer, validates=validates)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Decide whether a checkpoint is due, or the run has to stop."""
        step = trainer.global_step
        if step == self._step:  # within an accumulation
            return
        self._step = step
        signum = self.signals.received
        is_due = self._due_at is not None and time.monotonic() >= self._due_at
        if self._agreement is not None:
            signum, is_due = self._agree(self._agreement, step, signum, is_due)
        is_turn = self.every_n_steps is not None and step % self.every_n_steps == 0
        self._is_due = is_due or is_turn
        self._leaving = signum

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save and stop before a validation, which may take long; a resumed run begins with it."""
        if not trainer.sanity_checking:
            self._between_batches(trainer)

    def _between_batches(self, trainer: Trainer) -> None:
        """Save if a checkpoint is due, and raise :class:`Stopped` after a signal.

        The metrics of the batch have been logged, so that a run that is killed at any moment loses
        none of them.
        """
        if self._is_due or self._leaving:
            self._is_due = False
            self.save(trainer)
        if not self._leaving:
            return
        if self.requeue and self._leaving == signal.SIGUSR1 and trainer.is_global_zero:
            requeue_job()
        # The launcher may kill the others as soon as the first process has exited.
        trainer.strategy.barrier("leave")
        raise Stopped(self._leaving)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a checkpoint of the last step."""
        self.save(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save between two steps, if there is one process: others might hang or have exited."""
        is_over = isinstance(exception, Stopped | NotFiniteError)
        if is_over or trainer.world_size > 1 or not self._is_training:
            return
        # Within an accumulation, its gradients would be lost.
        batches = batches_per_step(trainer, pl_module)
        if trainer.global_step > 0 and batch_counter(pl_module) % batches == 0:
            try:
                self.save(trainer)
            except NotFiniteError as error:
                log.error("CHECKPOINT NOT SAVED: %s", error)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store whether this step is still to be validated, and how many rows were logged."""
        rows = {logger.name: logger.num_rows for logger in _csv_loggers(trainer)}
        checkpoint[POSITION] = {"validates": trainer.validating, "rows": rows}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the position; earlier versions did not store it."""
        self._position = checkpoint.get(POSITION, {})

    def save(self, trainer: Trainer) -> None:
        """Save a checkpoint of this step, unless there is one, and remove the oldest ones."""
        step = trainer.global_step
        if step == self._saved_step:
            return
        path = checkpoint_path(self.folder, step)
        trainer.save_checkpoint(path)
        is_saved = bool(trainer.strategy.broadcast(path.is_file()))
        self._wait(self.every_minutes if is_saved else self.retry_after_minutes)
        self._is_answer_old = True
        if is_saved:
            self._saved_step = step
            if trainer.is_global_zero:
                self._remove_old()

    def _compare_steps(self, trainer: Trainer) -> None:
        steps: list[int] = [0] * trainer.world_size
        dist.all_gather_object(steps, trainer.global_step)
        if len(set(steps)) > 1:
            raise ValueError(
                f"the processes would resume from different steps ({sorted(set(steps))}): "
                f"{self.folder} must be on a file system that all nodes share."
            )

    def _agree(
        self, agreement: Agreement, step: int, signum: int, is_due: bool
    ) -> tuple[int, bool]:
        """Return the signal and whether a checkpoint is due, the same for all processes."""
        if step % AGREE_EVERY:
            return 0, False
        agreed, due = agreement.ask(signum, int(is_due))
        # An answer to a question from before the last checkpoint is out of date.
        is_due, self._is_answer_old = bool(due) and not self._is_answer_old, False
        return agreed, is_due

    def _wait(self, minutes: float | None) -> None:
        self._due_at = None if minutes is None else time.monotonic() + minutes * MINUTE

    def _remove_old(self) -> None:
        if self.keep_last is None:
            return
        # Those of later steps are damaged, or belong to a run that has been abandoned.
        ours = [p for p in saved_checkpoints(self.folder) if step_of(p) <= self._saved_step]
        for path in ours[self.keep_last :]:
            every = self.keep_every_n_steps
            if every is None or step_of(path) % every:
                path.unlink(missing_ok=True)


def _csv_loggers(trainer: Trainer) -> list[ResumableCSVLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, ResumableCSVLogger)]
