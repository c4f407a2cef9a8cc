"""The only places that reach into parts of Lightning that are not public.

``tests/unit/training/test_lightning_private.py`` pins the version for which each of them was
written, and fails with another version whose parts differ.
"""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer


def batch_counter(module: LightningModule) -> int:
    """Return the number of training batches finished since step 0, also across resumed runs.

    A batch that an interruption cut short is not counted, because it is trained again.
    """
    progress = module.trainer.fit_loop.epoch_loop.batch_progress
    return int(progress.total.processed)  # type: ignore[attr-defined]  # declared too narrowly


def is_end_of_accumulation(module: LightningModule, num_batches: int) -> bool:
    """Return whether the current batch is the last one of an optimiser step.

    Args:
        module: in its training step.
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

    It waits for the answer, and with it for the GPU.
    :class:`~bigr.training.callbacks.checkpointing.Checkpoints` handles the signals instead.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
