"""Both stages on digits, in a few steps, through the command line."""

from __future__ import annotations

from pathlib import Path

from tests.processes import python

SHORT = (
    "data.batch_size=256",
    "task.lr_scheduler.warmup_steps=1",
    "trainer.val_check_interval=5",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
)
SMALL_CODE = (
    "autoencoder.base_channels=32",
    "autoencoder.channel_multipliers=[1,1,1]",
    "autoencoder.embed_dim=32",
)
SMALL = (*SMALL_CODE, "model.dim=64", "model.num_layers=2", "model.denoiser_dim=32")


def bigr(cwd: Path, module: str, *overrides: str) -> str:
    """Standard output and error of a run that has to succeed."""
    result = python("-m", f"bigr.{module}", *overrides, cwd=cwd, WANDB_MODE="offline")
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def train(folder: Path) -> Path:
    """``autoencoder`` and ``generator`` in ``folder``, of ten steps each."""
    ae = (
        *("experiment=digits_autoencoder", *SHORT, *SMALL_CODE, "trainer.max_steps=10"),
        "hydra.run.dir=autoencoder",
    )
    bigr(folder, "train", *ae)
    generator = (
        *("experiment=digits_generator", *SHORT, *SMALL, "trainer.max_steps=10"),
        "task.autoencoder=autoencoder",
        "sampler.num_denoise_steps=2",
        "hydra.run.dir=generator",
    )
    bigr(folder, "train", *generator)
    return folder
