"""The callback that ends a run whose discriminator no longer works."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from bigr.schema import NonNegativeFloat, PositiveInt, checked

LOGITS = ("train/logits_real", "train/logits_fake")


class CollapseError(ValueError):
    """Training has failed irrecoverably. The message says why, and what to try."""


class StopOnCollapse(Callback):
    """Ends the run if the discriminator wins, or cannot tell images apart, for a long time.

    Args:
        window: number of optimiser steps after which an exceeded limit ends the run.
        won_above: limit of the difference between the mean logits of real and reconstructed
            images; the hinge loss has no gradient for logits beyond 1 and -1.
        dead_below: limit of the absolute difference, below which the discriminator has failed.
        every_n_steps: steps between two checks of the logits, each of which waits for the device.

    Raises:
        ValueError: unless dead_below < won_above.
    """

    @checked
    def __init__(
        self,
        window: PositiveInt = 2000,
        won_above: NonNegativeFloat = 10.0,
        dead_below: NonNegativeFloat = 1e-4,
        every_n_steps: PositiveInt = 50,
    ) -> None:
        if dead_below >= won_above:
            raise ValueError(
                f"callbacks.collapse.dead_below={dead_below} must be below won_above={won_above}."
            )
        self.window = window
        self.won_above = won_above
        self.dead_below = dead_below
        self.every_n_steps = every_n_steps
        self._since: dict[str, int] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compare the logits with the limits.

        Raises:
            CollapseError: if one has been exceeded for ``window`` steps.
        """
        step = trainer.global_step
        metrics = trainer.callback_metrics
        if step % self.every_n_steps or any(name not in metrics for name in LOGITS):
            return
        real, fake = (float(metrics[name]) for name in LOGITS)
        states = {
            "won": real - fake > self.won_above,
            "died": abs(real - fake) < self.dead_below,
        }
        for state, holds in states.items():
            if not holds:
                self._since.pop(state, None)
                continue
            if step - self._since.setdefault(state, step) >= self.window:
                raise CollapseError(
                    f"the discriminator has {state}: for {self.window} steps its mean logits have "
                    f"been about {real:.2f} for images and {fake:.2f} for reconstructions. Resume "
                    "from an earlier checkpoint with task.gan.diffaugment=[color,translation], a "
                    "lower task.gan.optimizer.lr or a later task.gan.start_step; "
                    "callbacks.collapse=null turns this check off."
                )

    def state_dict(self) -> dict[str, int]:
        """Return the step since which each limit has been exceeded."""
        return dict(self._since)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue counting from the saved state."""
        self._since = dict(state_dict)
