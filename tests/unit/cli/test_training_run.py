"""Building a run: batches shared out, codes that fit, any classes of a user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
from omegaconf import OmegaConf

from bigr.checkpoints.native import save_autoencoder
from bigr.cli.training_run import build_run, check_codes, flat
from tests.models import tiny_autoencoder
from tests.tiny_training import LinearModule, PairsDataModule


class Sized(PairsDataModule):
    """A data module with the batch size per device that its run has chosen."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size


class Demanding(LinearModule):
    """A module that changes the settings of its trainer."""

    def configure_trainer(self, settings: dict[str, Any], world_size: int) -> dict[str, Any]:
        assert world_size == 1
        return {**settings, "gradient_clip_val": 0.25}


class Refusing(lightning.Callback):
    """A callback with a check."""

    def check(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        raise ValueError(f"{type(module).__name__} is not liked for {trainer.max_steps} steps.")


def strategy(world_size: int) -> str:
    """Return the strategy for a number of devices that is only known when the run is built."""
    return {1: "auto"}[world_size]


def target(thing: Any, **values: Any) -> dict[str, Any]:
    return {"_target_": f"{thing.__module__}.{thing.__qualname__}", **values}


def config(**changes: Any) -> Any:
    trainer = {
        "accelerator": "cpu",
        "devices": 1,
        "num_nodes": 1,
        "strategy": {**target(strategy), "_partial_": True},
        "max_steps": 3,
        "accumulate_grad_batches": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    values = {
        "seed": 1,
        "global_batch_size": 24,
        "data": target(Sized, batch_size=8),
        "task": target(LinearModule, lr=0.5),
        "callbacks": {"none": None},
        "logger": None,
        "trainer": {**target(lightning.Trainer), **trainer},
    }
    return OmegaConf.create({**values, **changes})


def test_the_global_batch_is_split_over_accumulated_batches() -> None:
    before = config()
    run = build_run(before, None)
    assert (run.data.batch_size, run.trainer.accumulate_grad_batches) == (8, 3)
    assert run.settings["trainer"]["accumulate_grad_batches"] == 3
    assert run.module.lr == 0.5
    assert run.trainer.max_steps == 3
    assert before.trainer.accumulate_grad_batches == 1, "the given configuration stays as it is"


def test_a_batch_that_does_not_divide_evenly_is_made_smaller() -> None:
    run = build_run(config(global_batch_size=12), None)
    assert (run.data.batch_size, run.trainer.accumulate_grad_batches) == (6, 2)


def test_a_module_may_change_its_trainer() -> None:
    assert build_run(config(task=target(Demanding)), None).trainer.gradient_clip_val == 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": target(PairsDataModule)}, "global_batch_size=24 needs data.batch_size"),
        (
            {"callbacks": {"mine": target(Refusing)}},
            r"^LinearModule is not liked for 3 steps\.$",
        ),
        (
            {"callbacks": {"lr": target(lightning.pytorch.callbacks.LearningRateMonitor)}},
            r"^logger=\[\]: callbacks\.lr_monitor needs a logger",
        ),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_run(config(**changes), None)


def test_accumulation_is_either_given_or_follows() -> None:
    given = config()
    given.trainer.accumulate_grad_batches = 2
    with pytest.raises(ValueError, match="follows from global_batch_size"):
        build_run(given, None)
    given.global_batch_size = None
    run = build_run(given, None)
    assert (run.data.batch_size, run.trainer.accumulate_grad_batches) == (8, 2)


def test_what_lightning_refuses_names_the_trainer() -> None:
    given = config()
    given.trainer.limit_val_batches = -1
    with pytest.raises(ValueError, match=r"^trainer: .*limit_val_batches"):
        build_run(given, None)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"code_dim": 6, "grid_size": 4}, None),
        ({"code_dim": 7, "grid_size": 4}, r"code_dim 6, but model\.code_dim is 7: .*autoencoder="),
        ({"code_dim": 6, "grid_size": 8}, r"grid_size 4, but model\.grid_size is 8: .*resolution="),
    ],
)
def test_codes_have_the_sizes_of_the_model(
    tmp_path: Path, sizes: dict[str, int], message: str | None
) -> None:
    path = tmp_path / "a.safetensors"
    save_autoencoder(tiny_autoencoder(), path)
    task = OmegaConf.create({"task": {"autoencoder": str(path), "model": sizes}})
    if message is None:
        check_codes(task)
        return
    with pytest.raises(ValueError, match=message):
        check_codes(task)


def test_tasks_without_codes_are_not_compared() -> None:
    check_codes(OmegaConf.create({"task": {"autoencoder": {"code_dim": 3}}}))


def test_flat_names() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [2, {"e": 3}]}, "f": None}
    assert flat(nested) == {"a.b.c": 1, "a.d": [2, {"e": 3}], "f": None}
