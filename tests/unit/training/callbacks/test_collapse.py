"""A run that has gone wrong is stopped, and not before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bigr.training.callbacks.collapse import CollapseError, StopOnCollapse


def look(callback: StopOnCollapse, step: int, real: float, fake: float) -> None:
    metrics = {"train/logits_real": torch.tensor(real), "train/logits_fake": torch.tensor(fake)}
    trainer: Any = SimpleNamespace(global_step=step, callback_metrics=metrics)
    callback.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("real", "fake", "state"), [(30.0, -30.0, "won"), (0.5, 0.5, "died"), (0.3, 0.1, None)]
)
def test_only_what_lasts_stops(real: float, fake: float, state: str | None) -> None:
    callback = StopOnCollapse(window=100, every_n_steps=10)
    for step in range(1, 60):
        look(callback, step, real, fake)
    look(callback, 60, 1.0, 0.0)  # a healthy moment: counting starts anew
    resumed = StopOnCollapse(window=100, every_n_steps=10)
    for step in range(61, 121):
        look(callback, step, real, fake)
    resumed.load_state_dict(callback.state_dict())
    for step in range(121, 170):
        look(resumed, step, real, fake)
    if state is None:
        look(resumed, 170, real, fake)
        return
    with pytest.raises(CollapseError, match=rf"the discriminator has {state}: for 100 steps"):
        look(resumed, 170, real, fake)


def test_impossible_limits() -> None:
    with pytest.raises(ValueError, match=r"dead_below=2\.0 must be below won_above"):
        StopOnCollapse(won_above=1.0, dead_below=2.0)
