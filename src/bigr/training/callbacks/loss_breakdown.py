"""The callback that logs the generator's loss by noise level and by share of masked tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from bigr.schema import PositiveInt, checked
from bigr.training.base_module import is_logged
from bigr.training.generator_module import GeneratorModule

METRICS = ("loss", "bit_accuracy")


class LossBreakdown(Callback):
    """Logs means over all devices since the last logged step, for a :class:`GeneratorModule`.

    ``train/loss_by_noise/0-25`` is the mean loss of masked tokens whose noise level is in the
    lowest quarter of 1..T, ``train/loss_by_masked/75-100`` that of batches with more than three
    quarters of their tokens masked, and ``bit_accuracy`` accordingly. The sums stay on the device
    until they are logged.

    Args:
        num_bins: number of ranges of noise levels, and of shares of masked tokens.
    """

    @checked
    def __init__(self, num_bins: PositiveInt = 4) -> None:
        self.num_bins = num_bins
        self._sums: Tensor | None = None
        self._last_step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the losses of the batch to the sums, and log them if metrics are logged now."""
        if not isinstance(pl_module, GeneratorModule):
            return
        self._add(pl_module)
        step = trainer.global_step
        if step != self._last_step and is_logged(trainer, step):
            self._log(pl_module)
        self._last_step = step

    def _add(self, module: GeneratorModule) -> None:
        outcome, draws = module.outcome, module.draws
        if outcome is None or draws is None:
            return
        seq_len, levels = module.model.config.seq_len, module.model.config.num_diffusion_steps
        is_masked = draws.is_masked.repeat(draws.num_levels, 1)
        noise_bin = (draws.timesteps - 1) * self.num_bins // levels
        share_bin = min(self.num_bins - 1, draws.num_masked * self.num_bins // seq_len)
        values = torch.stack([outcome.token_loss, outcome.token_accuracy, is_masked.float()])
        values = (values * is_masked).flatten(1).float()  # (3, tokens)
        if self._sums is None:
            self._sums = values.new_zeros(2, self.num_bins, len(values))
        self._sums[0].index_add_(0, noise_bin.flatten(), values.T)
        self._sums[1, share_bin] += values.sum(dim=1)

    def _log(self, module: GeneratorModule) -> None:
        if self._sums is None:
            return
        sums = self._sums
        self._sums = None
        if dist.is_initialized():
            dist.all_reduce(sums)
        names = [
            f"{100 * index // self.num_bins}-{100 * (index + 1) // self.num_bins}"
            for index in range(self.num_bins)
        ]
        for kind, rows in zip(("noise", "masked"), sums.tolist(), strict=True):
            for name, (loss, accuracy, count) in zip(names, rows, strict=True):
                if count:
                    figures = zip(METRICS, (loss / count, accuracy / count), strict=True)
                    module.log_dict({f"train/{m}_by_{kind}/{name}": v for m, v in figures})
