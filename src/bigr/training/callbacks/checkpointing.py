"""Checkpoints that are whole or not there, when they are made, and which one to go on from."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from bigr.training.base_module import batch_counter
from bigr.training.stopping import (
    AGREE_EVERY,
    Agreement,
    Stopped,
    StopSignals,
    requeue_in_slurm,
)

log = logging.getLogger(__name__)

PATTERN = "step_*.ckpt"
PART = ".part"
NEEDED = ("state_dict", "loops", "optimizer_states", "global_step", "bigr")
MINUTE = 60.0


class DurableCheckpointIO(TorchCheckpointIO):
    """Streams a checkpoint to a temporary name, to the disk, then into place.

    Where that fails, for want of space say, it says so and the run goes on: the file isn't there.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: Any,
        storage_options: Any | None = None,  # noqa: ARG002
    ) -> None:
        """Write ``checkpoint``, or log an error."""
        target = Path(path)
        part = target.with_name(target.name + PART)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        # PyTorch's writer turns some of the system's errors into its own.
        except (OSError, RuntimeError) as error:
            reason = error.__context__ if isinstance(error.__context__, OSError) else error
            with contextlib.suppress(OSError):
                part.unlink()
            log.error("CHECKPOINT NOT SAVED: %s: %s", target, reason)


class Checkpoints(Checkpoint):
    """Saves between two steps: every n steps or minutes, when asked to stop, and at the end.

    On SIGTERM, SIGUSR1 or Ctrl-C all processes save at the same step and leave; after SIGUSR1 a
    SLURM job is requeued. An older checkpoint goes only when a newer one is whole.

    Args:
        folder: where ``step_….ckpt`` are written.
        every_n_steps: optimiser steps from one to the next; null only counts minutes.
        every_minutes: time from one to the next; null only counts steps.
        keep_last: how many are kept.
        keep_every_n_steps: those of every n-th step are kept for good; null keeps none.
        retry_after_minutes: after one that could not be saved.
        requeue: whether SIGUSR1 requeues a SLURM job.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        folder: str,
        *,
        every_n_steps: int | None = None,
        every_minutes: float | None = 15.0,
        keep_last: int = 2,
        keep_every_n_steps: int | None = None,
        retry_after_minutes: float = 5.0,
        requeue: bool = True,
    ) -> None:
        positive = {
            "every_n_steps": every_n_steps,
            "every_minutes": every_minutes,
            "keep_last": keep_last,
            "keep_every_n_steps": keep_every_n_steps,
        }
        for name, value in positive.items():
            if value is not None and value <= 0:
                raise ValueError(f"callbacks.checkpoint.{name} must be positive, got {value}.")
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
        self._leaving = 0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Begin to listen.

        Raises:
            ValueError: if the processes go on from different steps.
        """
        self.signals.install()
        self._is_training = True
        self._step = self._saved_step = trainer.global_step
        if trainer.is_global_zero and self.folder.is_dir():
            for left in self.folder.glob(PATTERN + PART):  # by a process that was killed
                left.unlink()
        self._wait(self.every_minutes)
        if trainer.world_size == 1:
            return
        self._agreement = Agreement(pl_module.device)
        # Lightning asks all processes at every batch and waits for the answer.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        steps: list[int] = [0] * trainer.world_size
        dist.all_gather_object(steps, trainer.global_step)
        if len(set(steps)) > 1:
            raise ValueError(
                f"the processes would go on from different steps ({sorted(set(steps))}): "
                f"{self.folder} has to be on a file system that all nodes see."
            )

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Save if it is time, or if asked to stop."""
        step = trainer.global_step
        if step == self._step:  # a batch of an accumulation
            return
        self._step = step
        signum, is_due = self.signals.received, self._due_at is not None and self._is_late()
        if self._agreement is not None:
            signum, is_due = self._agreed(step, signum, is_due)
        is_turn = self.every_n_steps is not None and step % self.every_n_steps == 0
        if signum or is_due or is_turn:
            self.save(trainer)
        if signum:
            self._leaving = signum

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Leave, now that the last step's figures are logged.

        Raises:
            Stopped: after a signal.
        """
        self._leave(trainer)

    def on_validation_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
    ) -> None:
        """The same: validation may take longer than the time that is left.

        Raises:
            Stopped: after a signal.
        """
        self._leave(trainer)

    def _leave(self, trainer: lightning.Trainer) -> None:
        if not self._leaving:
            return
        if self.requeue and self._leaving == signal.SIGUSR1 and trainer.is_global_zero:
            requeue_in_slurm()
        trainer.strategy.barrier("leave")  # else the first to go may have the others killed
        raise Stopped(self._leaving)

    def on_train_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
    ) -> None:
        """The last one."""
        self.save(trainer)

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Save what one process has; of several, the others may hang or be gone."""
        if isinstance(exception, Stopped) or trainer.world_size > 1 or not self._is_training:
            return
        if _is_between_steps(trainer, pl_module):
            self.save(trainer)

    def save(self, trainer: lightning.Trainer) -> None:
        """Save this step's, unless that was done; then remove what is too old."""
        step = trainer.global_step
        if step == self._saved_step:
            return
        path = self.folder / f"step_{step:08d}.ckpt"
        trainer.save_checkpoint(path)
        is_saved = bool(trainer.strategy.broadcast(path.is_file()))
        self._wait(self.every_minutes if is_saved else self.retry_after_minutes)
        self._is_answer_old = True  # that of the question asked before this
        if is_saved:
            self._saved_step = step
            if trainer.is_global_zero:
                self._remove_old()

    def _agreed(self, step: int, signum: int, is_due: bool) -> tuple[int, bool]:
        if self._agreement is None or step % AGREE_EVERY:
            return 0, False
        agreed, due = self._agreement.ask(signum, int(is_due))
        is_due, self._is_answer_old = bool(due) and not self._is_answer_old, False
        return agreed, is_due

    def _is_late(self) -> bool:
        return self._due_at is not None and time.monotonic() >= self._due_at

    def _wait(self, minutes: float | None) -> None:
        self._due_at = None if minutes is None else time.monotonic() + minutes * MINUTE

    def _remove_old(self) -> None:
        for path in saved_checkpoints(self.folder)[self.keep_last :]:
            every = self.keep_every_n_steps
            if every is None or _step_of(path) % every:
                path.unlink(missing_ok=True)


def _is_between_steps(trainer: lightning.Trainer, module: lightning.LightningModule) -> bool:
    """Whether no gradients of a broken-off accumulation would be lost."""
    size = max(trainer.accumulate_grad_batches, getattr(module, "accumulate_grad_batches", 1))
    return trainer.global_step > 0 and batch_counter(module) % size == 0


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def saved_checkpoints(folder: Path) -> list[Path]:
    """Those of a run, the newest first."""
    return sorted((p for p in folder.glob(PATTERN) if p.stem[5:].isdigit()), key=_step_of)[::-1]


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; warns about newer ones that can't."""
    for path in saved_checkpoints(folder):
        problem = what_is_wrong(path)
        if problem is None:
            return path
        log.warning("passing over %s: %s", path, problem)
    return None


def what_is_wrong(path: Path) -> str | None:
    """Why training can't go on from a file, or None; reads its structure, not its tensors."""
    try:
        if not zipfile.is_zipfile(path):
            return f"it is cut off ({path.stat().st_size:,} bytes)"
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a broken file makes of the reader
        return f"it can't be read ({type(error).__name__})"
    missing = [name for name in NEEDED if name not in content]
    return f"it has no {', '.join(missing)}" if missing else None
