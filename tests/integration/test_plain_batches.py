"""Our own tasks on a plain DataModule: pictures, averaged weights, and resuming twice."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import open_dict

from bigr import BinaryAutoencoder, BinaryAutoencoderConfig, load_autoencoder, load_generator
from bigr.checkpoints.native import save_autoencoder
from bigr.cli.configuration import config_dir, register_resolvers
from bigr.train import job

EPOCH = 6
"""Batches of the data module."""
TASKS = {
    "autoencoder": ("callbacks.ema.decay=0.5", "autoencoder.res_blocks=1"),
    "generator": ("sampler.num_iterations=2", "sampler.num_denoise_steps=2", "model.num_layers=1"),
}
PICTURES = {"autoencoder": "reconstructions", "generator": "samples"}


def train(folder: Path, task: str, epochs: int, *overrides: str) -> None:
    """Train for some epochs of images of 16x16 pixels, with one validation run in each."""
    register_resolvers()
    words = [
        *(f"paths.output={folder}", f"experiment=digits_{task}", "model.num_classes=3", "seed=3"),
        *(f"trainer.max_steps={EPOCH * epochs}", f"trainer.val_check_interval={EPOCH}"),
        *("task.lr_scheduler.warmup_steps=1", "task.lr_scheduler.total_steps=100"),
        *("trainer.log_every_n_steps=1", *TASKS[task], *overrides),
    ]
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose("train", words)
    with open_dict(config):
        config.data = {"_target_": "tests.tiny_training.PairsDataModule", "kind": "bytes"}
    job(config)


@pytest.mark.parametrize("task", TASKS)
def test_resuming_twice_gives_the_run_that_was_left_alone(tmp_path: Path, task: str) -> None:
    more: tuple[str, ...] = ()
    if task == "generator":
        config = BinaryAutoencoderConfig.preset("digits", image_size=16)
        save_autoencoder(BinaryAutoencoder(config), tmp_path / "autoencoder.safetensors")
        more = (f"task.autoencoder={tmp_path}/autoencoder.safetensors",)
    # 1. Three epochs at once, and one by one.
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, task, 3, *more)
    train(parts, task, 1, *more)
    for epochs in (2, 3):
        train(parts, task, epochs, "resume=auto", *more)
    # 2. The raw weights, the averaged ones, and the exported ones.
    name = f"step_{3 * EPOCH:08d}.ckpt"
    kept: list[Any] = [
        torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (whole, parts)
    ]
    for key in ("current_model_state", "state_dict"):
        assert all(torch.equal(kept[1][key][n], w) for n, w in kept[0][key].items())
    average, raw = kept[0]["state_dict"], kept[0]["current_model_state"]
    assert any(not torch.equal(average[n], raw[n]) for n in average)
    load: Any = load_autoencoder if task == "autoencoder" else load_generator
    prefix = "autoencoder." if task == "autoencoder" else "model."
    for n, weight in load(parts).state_dict().items():
        assert torch.equal(weight, average[prefix + n])
    # 3. A picture for each validation run, and the same losses.
    pictures = sorted(path.name for path in (parts / "pictures").iterdir())
    assert pictures == [f"{PICTURES[task]}_{EPOCH * n:07d}.png" for n in (1, 2, 3)]
    losses = [logged(folder, "train/loss") for folder in (whole, parts)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3 * EPOCH


def logged(folder: Path, name: str) -> list[str]:
    with (folder / "csv" / "metrics.csv").open() as file:
        return [row[name] for row in csv.DictReader(file) if row[name]]
