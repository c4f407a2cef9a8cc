"""The only functions that use private parts of Lightning.

``tests/unit/training/test_lightning_private.py`` pins the version for which each of them was
written, and fails with another version whose parts differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.loops.fit_loop import RestartStage
from lightning.pytorch.strategies import DDPStrategy


def has_static_graph(strategy: Any) -> bool:
    """Return whether a strategy is DDP with ``static_graph=True``."""
    return isinstance(strategy, DDPStrategy) and bool(strategy._ddp_kwargs.get("static_graph"))


def batch_counter(module: LightningModule) -> int:
    """Return the number of training batches finished since step 0, also across resumed runs.

    A batch that an interruption cut short is not counted, because it is trained again.
    """
    progress = module.trainer.fit_loop.epoch_loop.batch_progress
    return int(progress.total.processed)  # type: ignore[attr-defined]  # declared too narrowly


def is_end_of_accumulation(module: LightningModule, num_batches: int) -> bool:
    """Return whether the current batch is the last one of an optimiser step.

    Args:
        module: the module, during its training step.
        num_batches: batches per optimiser step.
    """
    ready: int = module.trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return ready % num_batches == 0 or module.trainer.is_last_batch


def rescale_batch_counters(checkpoint: dict[str, Any], before: int, now: int) -> None:
    """Convert the batch counters of a checkpoint to another number of batches per step.

    Args:
        checkpoint: changed in place.
        before: batches per optimiser step of the run that wrote it.
        now: batches per optimiser step of the run that resumes from it.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        done = counts["processed"]
        for name, count in counts.items():
            counts[name] = done * now // before + count - done


def skip_signal_broadcast(trainer: Trainer) -> None:
    """Keep Lightning from asking all processes before each batch whether one received SIGTERM.

    Lightning would wait for the answers, and therefore for the GPU.
    :class:`~bigr.training.callbacks.checkpointing.Checkpoints` handles the signals instead.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def logged_step(trainer: Trainer) -> int:
    """Return the step that loggers are given for the next batch.

    It is the number of optimiser steps, or with manual optimisation the number of batches.
    """
    module = trainer.lightning_module
    return trainer.global_step if module.automatic_optimization else batch_counter(module)


def call_between_batches(trainer: Trainer, function: Callable[[], object]) -> None:
    """Call ``function`` after each training batch, when everything about that batch is done.

    Lightning has no hook at this moment, when the metrics of the batch have been logged, validation
    is over if it was due, and the next batch has not been fetched.
    """
    loop = trainer.fit_loop.epoch_loop
    advance_end = loop.on_advance_end

    def on_advance_end(data_fetcher: Any) -> None:
        advance_end(data_fetcher)
        function()

    loop.on_advance_end = on_advance_end  # type: ignore[method-assign]


def continue_between_batches(trainer: Trainer, *, validates: bool) -> None:
    """Give a resumed run the counters that an uninterrupted one has before its next batch.

    Lightning restores the counters of the moment in which the checkpoint was saved, and infers from
    them how far the run had come. It then counts a step twice, begins an epoch that is over or
    counts one that is not, and leaves out a validation that was due.

    Args:
        trainer: the trainer, in ``on_train_start`` of a run that resumes from a checkpoint.
        validates: whether to validate first, because the checkpoint was saved before a validation.
    """
    loop = trainer.fit_loop.epoch_loop
    batches, step = batch_counter(trainer.lightning_module), logged_step(trainer)
    if validates:
        _place(trainer, batches, step, is_epoch_over=False)
        trainer.validating = True
        loop.val_loop.restarting = False
        loop.val_loop.run()
        trainer.training = True
    _place(trainer, batches, step, is_epoch_over=True)


def _place(trainer: Trainer, batches: int, step: int, *, is_epoch_over: bool) -> None:
    """Set all counters to those after a number of training batches.

    Args:
        trainer: the trainer, in ``on_train_start``.
        batches: number of batches since step 0.
        step: the step that loggers are given for the next batch.
        is_epoch_over: whether an epoch is over after its last batch, or not until it is validated.
    """
    loop, inner = trainer.fit_loop, trainer.fit_loop.epoch_loop
    progress: Any = inner.batch_progress
    epochs: Any = loop.epoch_progress
    # 1. How far the run is.
    epoch, done = trainer.current_epoch, progress.current.processed
    if trainer.num_training_batches != float("inf"):
        epoch, done = divmod(batches, int(trainer.num_training_batches))
    if done == 0 and epoch > 0 and not is_epoch_over:
        epoch, done = epoch - 1, int(trainer.num_training_batches)
    is_within = done > 0
    # 2. The counters of batches and epochs.
    for counts, number in ((progress.total, batches), (progress.current, done)):
        counts.ready = counts.started = counts.processed = counts.completed = number
    progress.is_last_batch = False
    for counts in (epochs.total, epochs.current):
        counts.processed = counts.completed = epoch
        counts.ready = counts.started = epoch + is_within
    # 3. Whether Lightning continues an epoch, and then adds 1 to the step, or begins one.
    inner._batches_that_stepped = step - is_within
    for part in (loop, inner, inner.val_loop):
        part._restarting = is_within
        part._restart_stage = RestartStage.NONE
    if is_within:
        loop._restart_stage = RestartStage.RESTARTED_MID_EPOCH
