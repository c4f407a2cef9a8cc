"""Stops a run that has gone wrong, while its last good weights are still there."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

LOGITS = ("train/logits_real", "train/logits_fake")


class CollapseError(ValueError):
    """Training has gone wrong; says how and what to try."""


class StopOnCollapse(Callback):
    """Ends the run when the discriminator has won, or tells nothing apart any more, for long.

    Args:
        window: optimiser steps that it has to be so without a break.
        won_above: difference of the mean logits of real and reconstructed images; the hinge loss
            has no gradient for differences that come from logits beyond 1 and -1.
        dead_below: difference of the mean logits, either way.
        every_n_steps: how often to look, for looking waits for the device.

    Raises:
        ValueError: if the limits contradict each other.
    """

    def __init__(
        self,
        window: int = 2000,
        won_above: float = 10.0,
        dead_below: float = 1e-4,
        every_n_steps: int = 50,
    ) -> None:
        if not 0 <= dead_below < won_above or window < 1 or every_n_steps < 1:
            raise ValueError(
                "callbacks.collapse needs 0 <= dead_below < won_above, and positive window and "
                f"every_n_steps; got {dead_below}, {won_above}, {window} and {every_n_steps}."
            )
        self.window = window
        self.won_above = won_above
        self.dead_below = dead_below
        self.every_n_steps = every_n_steps
        self._since: dict[str, int] = {}

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Look at the logits.

        Raises:
            CollapseError: if it has lasted too long.
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
            since = self._since.setdefault(state, step)
            if step - since >= self.window:
                raise CollapseError(
                    f"the discriminator has {state}: for {self.window} steps its mean logits have "
                    f"been about {real:.2f} for images and {fake:.2f} for reconstructions. Go on "
                    "from an earlier checkpoint with task.gan.diffaugment=[color,translation], a "
                    "lower task.gan.optimizer.lr or a later task.gan.start_step; "
                    "callbacks.collapse=null doesn't look."
                )

    def state_dict(self) -> dict[str, int]:
        """Since when."""
        return dict(self._since)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on counting."""
        self._since = dict(state_dict)
