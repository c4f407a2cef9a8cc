"""The private parts of Lightning that are used exist, and mean what they are taken for."""

from __future__ import annotations

import inspect
from typing import Any

import lightning
import torch
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from torch.utils.data import DataLoader

from bigr.training.lightning_private import (
    batch_counter,
    call_between_batches,
    is_end_of_accumulation,
    logged_step,
    rescale_batch_counters,
)
from tests.tiny_training import LinearModule, QuadraticModule, tiny_trainer

TESTED = "2.6"
"""Look at ``lightning_private.py`` again before another version is added here."""


def test_version() -> None:
    assert lightning.__version__.startswith(TESTED)
    source = inspect.getsource(_TrainingEpochLoop.advance)
    assert source.count("self._broadcast_sigterm_tensor()") == 1


def test_counters_during_accumulation() -> None:
    seen: list[tuple[int, bool]] = []

    class Look(LinearModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append((batch_counter(self), is_end_of_accumulation(self, 4)))
            return super().training_step(batch, batch_idx)

    tiny_trainer(4, accumulate_grad_batches=4).fit(Look())  # 6 batches an epoch: 4 and 2
    assert [counter for counter, _ in seen] == list(range(12))
    assert [index for index, (_, is_end) in enumerate(seen) if is_end] == [3, 5, 9, 11]


def test_counters_of_another_accumulation() -> None:
    counts = {"ready": 13, "started": 13, "processed": 12, "completed": 12}
    progress = {"total": dict(counts), "current": dict(counts)}
    checkpoint = {"loops": {"fit_loop": {"epoch_loop.batch_progress": progress}}}
    rescale_batch_counters(checkpoint, before=4, now=2)  # 3 steps are 6 batches now
    assert progress["total"] == {"ready": 7, "started": 7, "processed": 6, "completed": 6}
    assert progress["current"] == progress["total"]


def test_between_batches_everything_is_done() -> None:
    """The batch is counted and validated, and the next one has not been fetched."""
    fetched: list[int] = []
    seen: list[tuple[int, int, int, int]] = []

    def collate(items: list[int]) -> torch.Tensor:
        fetched.extend(items)
        return torch.tensor(items)

    class Batches(QuadraticModule):
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(range(6), collate_fn=collate)  # type: ignore[arg-type]

    class Look(lightning.Callback):
        validated = 0

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            call_between_batches(trainer, lambda: self.look(trainer, pl_module))

        def on_validation_end(self, *_: Any) -> None:
            self.validated += 1

        def look(self, trainer: Any, module: Any) -> None:
            seen.append((batch_counter(module), logged_step(trainer), self.validated, len(fetched)))

    validation = {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    trainer = tiny_trainer(4, Look(), **validation)
    trainer.fit(Batches())
    assert [place[:3] for place in seen] == [(1, 1, 0), (2, 2, 1), (3, 3, 1), (4, 4, 2)]
    assert [place[3] for place in seen] == [1, 2, 3, 4]
