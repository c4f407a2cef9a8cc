"""The callback that averages the weights."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from bigr.schema import PositiveInt, checked
from bigr.training.sharding import is_sharded, load_whole, local, reshard, whole_weights

CURRENT = "current_model_state"
"""Key of the raw weights in a checkpoint, whose ``state_dict`` holds the average."""


class EMA(Callback):
    """Exponential moving average of all trained weights, used by validation and after ``fit``.

    e <- decay e + (1 - decay) w, starting with the initial weights. Lightning's own callback reads
    a counter back from the device at each update; this one never waits for it.

    Args:
        decay: share of the old average that each update keeps.
        every_n_steps: optimiser steps between two updates.
    """

    @checked
    def __init__(
        self, decay: Annotated[float, Ge(0), Lt(1)] = 0.9999, every_n_steps: PositiveInt = 1
    ) -> None:
        self.decay = decay
        self.every_n_steps = every_n_steps
        self._average: dict[str, Tensor] = {}
        self._last_step = 0
        self._is_swapped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with the initial weights, or with the average that was restored."""
        self._average = {
            name: self._average[name].to(weight) if name in self._average else weight.clone()
            for name, weight in _trained(pl_module).items()
        }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average, if ``every_n_steps`` have passed since the last update."""
        step = trainer.global_step
        if step - self._last_step < self.every_n_steps:
            return
        self._last_step = step
        weights = _trained(pl_module)
        average = [self._average[name] for name in weights]
        torch._foreach_lerp_(average, list(weights.values()), 1 - self.decay)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the module."""
        self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the raw weights back."""
        self._swap(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module, and keep the raw weights for the last checkpoint."""
        self._leave_average(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do the same if there was no step left, when ``on_train_end`` is not called."""
        self._leave_average(pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Put the raw weights back if validation was interrupted."""
        if self._is_swapped:
            self._swap(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last update. The average itself is in the weights."""
        return {"last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore that step. Earlier versions used the key of Lightning's callback."""
        self._last_step = state_dict.get("last_step", state_dict.get("latest_update_step", 0))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average as ``state_dict`` and the raw weights as ``current_model_state``."""
        if not self._average:
            return
        if is_sharded(pl_module):
            self._swap(pl_module)
            other = whole_weights(trainer)
            self._swap(pl_module)
            pair = (checkpoint["state_dict"], other)
            average, raw = pair if self._is_swapped else pair[::-1]
            checkpoint["state_dict"], checkpoint[CURRENT] = average, raw
            return
        # While they are swapped, the module holds the average, and this callback the raw weights.
        module, ours = checkpoint["state_dict"], {**checkpoint["state_dict"], **self._average}
        average, raw = (module, ours) if self._is_swapped else (ours, module)
        checkpoint["state_dict"], checkpoint[CURRENT] = average, raw

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore both; Lightning has already loaded ``state_dict`` into the module."""
        self._average = {}
        if CURRENT not in checkpoint:
            return
        if is_sharded(pl_module):
            self._average = {name: part.clone() for name, part in _trained(pl_module).items()}
        else:
            names = [name for name, _ in pl_module.named_parameters()]
            average = checkpoint["state_dict"]
            self._average = {name: average[name] for name in names if name in average}
        load_whole(pl_module, checkpoint[CURRENT])

    def _leave_average(self, module: LightningModule) -> None:
        if not self._is_swapped:
            self._swap(module)

    def _swap(self, module: LightningModule) -> None:
        if not self._average:
            return
        weights = _trained(module)
        average = [self._average[name] for name in weights]
        kept = [tensor.clone() for tensor in average]
        torch._foreach_copy_(average, list(weights.values()))
        torch._foreach_copy_(list(weights.values()), kept)
        self._is_swapped = not self._is_swapped


def _trained(module: LightningModule) -> dict[str, Tensor]:
    """Return every trained parameter by name, of sharded ones this process's shard."""
    reshard(module)
    return {name: local(p.detach()) for name, p in module.named_parameters() if p.requires_grad}
