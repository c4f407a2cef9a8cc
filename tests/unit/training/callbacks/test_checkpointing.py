"""When checkpoints are saved, and which are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest

from bigr.training.callbacks.checkpointing import Checkpoints
from bigr.training.checkpoint_files import saved_checkpoints, step_of
from tests.tiny_training import LinearModule, tiny_trainer


def steps_after(folder: Path, max_steps: int, *callbacks: Any, **settings: Any) -> list[int]:
    saver = Checkpoints(str(folder), **{"every_minutes": None, **settings})
    tiny_trainer(max_steps, saver, *callbacks, enable_checkpointing=True).fit(LinearModule())
    return [step_of(path) for path in saved_checkpoints(folder)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every_n_steps": 2, "keep_last": None}, [7, 6, 4, 2]),
        ({"every_n_steps": 2, "keep_last": 1}, [7]),
        ({"every_n_steps": 1, "keep_last": 2, "keep_every_n_steps": 3}, [7, 6, 3]),
        ({}, [7]),
    ],
)
def test_what_is_kept(tmp_path: Path, settings: dict[str, Any], expected: list[int]) -> None:
    assert steps_after(tmp_path, 7, **settings) == expected


def test_an_exception_between_two_steps_saves(tmp_path: Path) -> None:
    class Fail(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 3:
                raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        steps_after(tmp_path, 7, Fail())
    assert [step_of(path) for path in saved_checkpoints(tmp_path)] == [3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_last": 0}, r"Checkpoints\.keep_last must be a positive integer or null, got 0"),
        ({"every_minutes": -1.0}, r"every_minutes must be a positive number or null, got -1\.0"),
        ({"every_n_steps": True}, r"every_n_steps must be a positive integer or null, got true"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Checkpoints("x", **settings)
