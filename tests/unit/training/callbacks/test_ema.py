"""The moving average of the weights, against the formula in float64."""

from __future__ import annotations

from typing import Any

import lightning
import pytest
import torch

from bigr.training.callbacks.ema import CURRENT, EMA
from tests.tiny_training import LinearModule, tiny_trainer


class Walk(lightning.Callback):
    """Sets the weight to a known sequence, and records what it is after each step."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        with torch.no_grad():
            pl_module.layer.weight.fill_(self.values[trainer.global_step - 1])


VALUES = [1.0, 5.0, -2.0, 7.0]


@pytest.mark.parametrize(("every", "used"), [(1, [1.0, 5.0, -2.0, 7.0]), (2, [5.0, 7.0])])
def test_average_after_fit(every: int, used: list[float]) -> None:
    expected = used[0]
    for value in used[1:]:
        expected = 0.75 * expected + 0.25 * value
    module = LinearModule()
    tiny_trainer(len(VALUES), Walk(VALUES), EMA(0.75, every)).fit(module)
    assert module.layer.weight[0, 0].item() == pytest.approx(expected)


def test_validation_sees_the_average_and_training_the_raw_weights() -> None:
    seen: dict[str, float] = {}

    class Look(lightning.Callback):
        def on_validation_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            seen["validation"] = pl_module.layer.weight[0, 0].item()

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            seen["after"] = pl_module.layer.weight[0, 0].item()

    trainer = tiny_trainer(2, Walk(VALUES), EMA(0.75), Look(), limit_val_batches=1)
    trainer.fit(LinearModule())
    assert seen == {"validation": pytest.approx(0.75 * 1 + 0.25 * 5), "after": 5.0}


def test_checkpoints_hold_both(tmp_path: Any) -> None:
    trainer = tiny_trainer(3, Walk(VALUES), EMA(0.5))
    trainer.fit(LinearModule())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved[CURRENT]["layer.weight"][0, 0].item() == -2.0
    assert saved["state_dict"]["layer.weight"][0, 0].item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 1.0}, r"EMA\.decay must be a number .*below 1, got 1\.0"),
        ({"every_n_steps": 0}, r"EMA\.every_n_steps must be a positive integer, got 0"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EMA(**settings)
