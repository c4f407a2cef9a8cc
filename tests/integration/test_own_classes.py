"""A user's own LightningModule, DataModule and callback in ``bigr.train``, and with our modules."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any

import hydra
import lightning
import pytest
import torch
from omegaconf import OmegaConf, open_dict

from bigr import BiGRConfig
from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.entry import UserError
from bigr.cli.training_run import build_run
from bigr.train import job
from bigr.training.autoencoder_module import AutoencoderModule
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.integration.test_training import SIZES
from tests.models import TINY
from tests.tiny_training import LinearModule, PairsDataModule, tiny_trainer

SEEN: list[int] = []


class CountSteps(lightning.Callback):
    """A user's callback."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        SEEN.append(trainer.global_step)


class PickyModule(LinearModule):
    """A user's module that looks at the data."""

    def check(self, data: Any) -> None:
        raise ValueError(f"{len(data.dataset)} images are too few.")


def compose(folder: Path, *overrides: str) -> Any:
    """Compose the configuration of a user who replaces the module and the data."""
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose("train", [f"paths.output={folder}", *overrides])
    with open_dict(config):
        config.pop("model")  # it has as many classes as our data modules say
        config.task = {"_target_": "tests.tiny_training.LinearModule", "lr": 0.1}
        config.data = {"_target_": "tests.tiny_training.PairsDataModule"}
        config.callbacks.mine = {"_target_": f"{__name__}.CountSteps"}
    return config


@pytest.mark.parametrize("callbacks", ["generator", "autoencoder"])
def test_own_module_and_data_run_with_all_callbacks(tmp_path: Path, callbacks: str) -> None:
    overrides = [
        *("trainer=cpu", f"callbacks={callbacks}", "trainer.log_every_n_steps=1", "seed=3"),
        *("trainer.val_check_interval=2", "trainer.check_val_every_n_epoch=null"),
        *("optimized_metric=val/loss", "global_batch_size=null"),
    ]
    with pytest.raises(UserError, match=r"needs data\.batch_size"):
        job(compose(tmp_path, *overrides, "global_batch_size=8"))
    SEEN.clear()
    loss = job(compose(tmp_path, *overrides, "trainer.max_steps=2"))
    assert loss is not None
    assert 0 < loss < 1
    assert SEEN == [2]
    saved = tmp_path / "checkpoints" / "step_00000002.ckpt"
    assert torch.load(saved, weights_only=True)["global_step"] == 2
    assert OmegaConf.load(tmp_path / "config.yaml").task.lr == 0.1
    job(compose(tmp_path, *overrides, "trainer.max_steps=4", "resume=auto"))
    assert SEEN == [2, 4]
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["train/loss"]]
    assert len(steps) == 4
    assert steps[:2] == ["0", "1"]


def test_own_module_may_refuse_the_data(tmp_path: Path) -> None:
    config = compose(tmp_path, "trainer=cpu", "global_batch_size=null")
    config.task = {"_target_": f"{__name__}.PickyModule"}
    with pytest.raises(UserError, match=r"^24 images are too few\.$"):
        job(config)


@pytest.mark.parametrize("shares", [False, True])
def test_several_devices_with_a_plain_loader(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shares: bool
) -> None:
    sampler = f"trainer.use_distributed_sampler={str(shares).lower()}"
    overrides = ("trainer=cpu", "trainer.devices=2", "global_batch_size=null", sampler)
    build_run(compose(tmp_path, *overrides), None)
    assert ("unless PairsDataModule distributes them" in caplog.text) is not shares


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_own_images_train_our_autoencoder(kind: str) -> None:
    data = PairsDataModule(kind)
    module = AutoencoderModule(SIZES, functools.partial(torch.optim.Adam, lr=1e-3))
    module.check(data)
    trainer = tiny_trainer(2, limit_val_batches=2)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 2
    assert trainer.callback_metrics["val/mse"] > 0


def test_own_codes_train_our_generator() -> None:
    data = PairsDataModule("codes")
    module = GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3))
    module.check(data)
    trainer = tiny_trainer(2, limit_val_batches=2)
    trainer.fit(module, datamodule=data)
    assert 0 < trainer.callback_metrics["val/bit_accuracy"] < 1


class Facts:
    """A data module that states some facts."""

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)


WRONG = {
    "kind": ({"provides": "images"}, r"provides images: set task\.autoencoder"),
    "code_dim": ({"provides": "codes", "code_dim": 7}, r"data\.code_dim=7, but the model has 6"),
    "grid_size": ({"grid_size": 9}, r"data\.grid_size=9, .* choose another resolution"),
    "classes": ({"num_classes": 5}, r"data\.num_classes=5, but the model has 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_facts_that_contradict_the_generator(name: str) -> None:
    facts, message = WRONG[name]
    module = GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3))
    module.check(Facts())
    with pytest.raises(ValueError, match=message):
        module.check(Facts(**facts))


def test_facts_that_contradict_the_autoencoder() -> None:
    module = AutoencoderModule(SIZES, functools.partial(torch.optim.Adam, lr=1e-3))
    module.check(Facts(provides="images", image_size=SIZES.image_size))
    with pytest.raises(ValueError, match="learns images, but this data module provides codes"):
        module.check(Facts(provides="codes"))
    with pytest.raises(ValueError, match=r"data\.image_size=32, .* choose resolution=8"):
        module.check(Facts(provides="images", image_size=32))
