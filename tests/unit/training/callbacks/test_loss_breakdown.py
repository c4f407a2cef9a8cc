"""Losses by noise level and by share of masked tokens, against sums written out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bigr import BiGRConfig
from bigr.models.training_draws import TrainingDraws
from bigr.training.callbacks.loss_breakdown import LossBreakdown
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.models import TINY
from tests.tiny_training import LinearModule


@pytest.mark.parametrize("num_levels", [1, 3])
def test_means_of_masked_tokens_by_bin(num_levels: int) -> None:
    module = GeneratorModule(BiGRConfig(**TINY), lambda model: adamw(model, lr=1e-3))
    logged: dict[str, float] = {}
    module.log_dict = logged.update  # type: ignore[assignment, method-assign]
    trainer: Any = SimpleNamespace(global_step=0, log_every_n_steps=2)
    callback = LossBreakdown(num_bins=2)
    generator = torch.Generator().manual_seed(0)
    expected: dict[str, list[float]] = {}
    for step, num_masked in ((1, 4), (2, 12)):
        # 3 images of 16 tokens; 256 noise levels.
        is_masked = torch.zeros(3, 16, dtype=torch.bool)
        is_masked[:, :num_masked] = True
        rows = 3 * num_levels
        timesteps = torch.randint(1, 257, (rows, 16), generator=generator)
        loss, accuracy = torch.rand(2, rows, 16, generator=generator)
        module.outcome = SimpleNamespace(token_loss=loss, token_accuracy=accuracy)  # type: ignore[assignment]
        module.draws = TrainingDraws(
            num_masked, is_masked, torch.zeros(3), timesteps, torch.zeros(rows, 16, 6)
        )
        trainer.global_step = step
        callback.on_train_batch_end(trainer, module, None, None, 0)
        for image in range(rows):
            for token in range(num_masked):
                noise = "0-50" if timesteps[image, token] <= 128 else "50-100"
                share = "0-50" if num_masked < 8 else "50-100"
                value = loss[image, token].item()
                expected.setdefault(f"train/loss_by_noise/{noise}", []).append(value)
                expected.setdefault(f"train/loss_by_masked/{share}", []).append(value)
    found = {name: value for name, value in logged.items() if "loss_by" in name}
    means = {name: sum(values) / len(values) for name, values in expected.items()}
    assert len(means) == 4
    assert found == pytest.approx(means)
    assert len(logged) == 8  # bit accuracies as well


def test_other_modules_are_skipped() -> None:
    trainer: Any = SimpleNamespace(global_step=2, log_every_n_steps=1)
    LossBreakdown().on_train_batch_end(trainer, LinearModule(), None, None, 0)
    with pytest.raises(ValueError, match="num_bins must be a positive integer, got 0"):
        LossBreakdown(0)
