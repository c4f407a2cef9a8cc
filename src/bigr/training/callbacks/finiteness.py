"""The callback that ends a run whose weights or validation metrics are not finite."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from bigr.training.callbacks.collapse import CollapseError
from bigr.training.sharding import local

log = logging.getLogger(__name__)

VALIDATION = "val"
"""The beginning of the names of all metrics of validation."""


class NotFiniteError(CollapseError):
    """A weight or a metric is not finite, so no further checkpoint may be saved."""


class StopIfNotFinite(Callback):
    """Ends the run if a validation metric is NaN, or before weights that are not finite are saved.

    The checkpoints of earlier steps remain, and no weights are exported. An infinite metric only
    causes a warning, because the PSNR of a perfect reconstruction is infinite.

    During training nothing is checked here, because a step whose gradient is not finite is skipped,
    see :class:`~bigr.training.gradient_guard.GradientGuard`.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the metrics of this validation.

        Raises:
            NotFiniteError: if one is NaN, on all processes.
        """
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics.items()
        values = {name: float(value) for name, value in metrics if name.startswith(VALIDATION)}
        for name in (name for name, value in values.items() if math.isinf(value)):
            log.warning("%s is infinite at step %d", name, trainer.global_step)
        bad = [name for name, value in values.items() if math.isnan(value)]
        self._stop(trainer, f"{' and '.join(bad)} became NaN" if bad else None)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look at the weights before a checkpoint is written.

        Raises:
            NotFiniteError: if one is not finite, on all processes.
        """
        self._check_weights(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the weights before they are exported.

        Raises:
            NotFiniteError: if one is not finite, on all processes.
        """
        self._check_weights(trainer, pl_module)

    def _check_weights(self, trainer: Trainer, module: LightningModule) -> None:
        named = ((name, local(parameter.detach())) for name, parameter in module.named_parameters())
        weights = {name: weight for name, weight in named if weight.numel()}
        if not weights:
            return
        largest = torch._foreach_norm(list(weights.values()), float("inf"))
        are_finite = torch.stack([norm.float() for norm in largest]).isfinite().tolist()
        bad = [name for name, is_finite in zip(weights, are_finite, strict=True) if not is_finite]
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        self._stop(trainer, f"weights are not finite ({bad[0]}{more})" if bad else None)

    def _stop(self, trainer: Trainer, problem: str | None) -> None:
        """Raise if there is a problem on any process, so that none waits for the others."""
        if trainer.strategy.reduce_boolean_decision(problem is not None, all=False):
            raise NotFiniteError(
                f"{problem or 'another process found values that are not finite'} at step "
                f"{trainer.global_step}: the weights of this step are neither saved nor exported. "
                "Resume from an earlier checkpoint (resume=PATH) with a lower task.optimizer.lr or "
                "trainer.gradient_clip_val; callbacks.finiteness=null turns this check off."
            )
