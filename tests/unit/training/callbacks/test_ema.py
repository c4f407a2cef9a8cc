"""The moving average of the weights, against the formula in float64."""

from __future__ import annotations

from pathlib import Path
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


INITIAL, VALUES = 3.0, [1.0, 5.0, -2.0, 7.0]


def initial_module() -> LinearModule:
    module = LinearModule()
    with torch.no_grad():
        module.layer.weight.fill_(INITIAL)
    return module


def average_of(values: list[float], decay: float) -> float:
    """The average after these weights, from the initial ones."""
    average = INITIAL
    for value in values:
        average = decay * average + (1 - decay) * value
    return average


@pytest.mark.parametrize(("every", "used"), [(1, VALUES), (2, VALUES[1::2])])
def test_average_after_fit(every: int, used: list[float]) -> None:
    module = initial_module()
    tiny_trainer(len(VALUES), Walk(VALUES), EMA(0.75, every)).fit(module)
    assert module.layer.weight[0, 0].item() == pytest.approx(average_of(used, 0.75))


def test_average_after_resuming(tmp_path: Path) -> None:
    """A resumed run goes on with the average, not with the weights it finds."""
    trainer = tiny_trainer(2, Walk(VALUES), EMA(0.75))
    trainer.fit(initial_module())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    module = LinearModule()
    trainer = tiny_trainer(len(VALUES), Walk(VALUES), EMA(0.75))
    trainer.fit(module, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert module.layer.weight[0, 0].item() == pytest.approx(average_of(VALUES, 0.75))


def test_validation_sees_the_average_and_training_the_raw_weights() -> None:
    seen: dict[str, float] = {}

    class Look(lightning.Callback):
        def on_validation_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            seen["validation"] = pl_module.layer.weight[0, 0].item()

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            seen["after"] = pl_module.layer.weight[0, 0].item()

    trainer = tiny_trainer(2, Walk(VALUES), EMA(0.75), Look(), limit_val_batches=1)
    trainer.fit(initial_module())
    expected = pytest.approx(average_of(VALUES[:2], 0.75))
    assert seen == {"validation": expected, "after": 5.0}


def test_checkpoints_hold_both(tmp_path: Path) -> None:
    trainer = tiny_trainer(3, Walk(VALUES), EMA(0.5))
    trainer.fit(initial_module())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved[CURRENT]["layer.weight"][0, 0].item() == -2.0
    average = saved["state_dict"]["layer.weight"][0, 0].item()
    assert average == pytest.approx(average_of(VALUES[:3], 0.5))


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
