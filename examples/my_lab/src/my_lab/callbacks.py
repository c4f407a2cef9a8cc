"""A callback."""

from __future__ import annotations

from typing import Annotated, Any

import lightning
from annotated_types import Ge
from lightning.pytorch.callbacks import Callback


class LogWeightNorm(Callback):
    """Log the norm of all trained weights as ``train/weight_norm``.

    Args:
        every_n_steps: optimizer steps between two values.
    """

    def __init__(self, every_n_steps: Annotated[int, Ge(1)] = 10) -> None:
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the norm if it is time."""
        if trainer.global_step % self.every_n_steps == 0:
            squares = sum(float(p.detach().square().sum()) for p in pl_module.parameters())
            pl_module.log("train/weight_norm", squares**0.5)
