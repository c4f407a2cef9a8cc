"""Both stages, evaluation, sampling and sweeps, through the command line, in a few steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from bigr import load_autoencoder, load_generator
from tests.processes import environment, python

SHORT = (
    "data.batch_size=256",
    "task.lr_scheduler.warmup_steps=1",
    "trainer.val_check_interval=5",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
)
SMALL_CODE = ("code.base_channels=32", "code.channel_multipliers=[1,1,1]", "code.embed_dim=32")
SMALL = (*SMALL_CODE, "model.dim=64", "model.num_layers=2", "model.denoiser_dim=32")

pytestmark = pytest.mark.slow


def bigr(cwd: Path, module: str, *overrides: str) -> str:
    """Standard output and error of a run that has to succeed."""
    result = python("-m", f"bigr.{module}", *overrides, cwd=cwd, WANDB_MODE="offline")
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a B-AE and a generator of ten steps each."""
    folder = tmp_path_factory.mktemp("digits")
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


def test_what_a_run_leaves_behind(trained: Path) -> None:
    for kind in ("autoencoder", "generator"):
        run = trained / kind
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["trainer"]["max_steps"] == 10
        assert config["paths"]["output"] == str(run)
        (saved,) = (run / "checkpoints").glob("*.ckpt")
        checkpoint = torch.load(saved, weights_only=True)
        assert checkpoint["bigr"]["run"] == config
        assert checkpoint["global_step"] == 10
        metrics = (run / "csv" / "metrics.csv").read_text().splitlines()
        assert {"train/loss", "val/psnr" if kind == "autoencoder" else "val/loss"} <= set(
            metrics[0].split(",")
        )
        steps = {line.split(",")[metrics[0].split(",").index("step")] for line in metrics[1:]}
        assert {"0", "9"} <= steps
        assert len(list((run / "pictures").glob("*.png"))) == 2
    assert load_generator(trained / "generator").config.dim == 64
    assert load_autoencoder(trained / "autoencoder").config.code_dim == 12


def test_evaluate(trained: Path) -> None:
    output = bigr(
        trained,
        "evaluate",
        "sampler=digits",
        "sampler.num_denoise_steps=2",
        "evaluation.count=60",
        "evaluation.inpainting_sampler.num_denoise_steps=2",
        "generator=generator",
        "autoencoder=autoencoder",
        "hydra.run.dir=evaluation",
    )
    assert "read as the class asked for" in output
    metrics = json.loads((trained / "evaluation" / "metrics.json").read_text())
    assert metrics["generated"]["count"] == 60
    assert 0 <= metrics["generated"]["accuracy"] < 0.6  # ten steps don't draw digits
    assert metrics["reader_accuracy"]["originals"] == pytest.approx(0.989, abs=0.002)
    samples = Image.open(trained / "evaluation" / "samples.png")
    assert samples.size == (6 * 66 + 2, 10 * 66 + 2)
    assert Image.open(trained / "evaluation" / "inpainting.png").size == (7 * 66 + 2, 10 * 66 + 2)


def test_sample_does_not_depend_on_the_batch(trained: Path) -> None:
    common = (
        "sampler=digits",
        "sampler.num_denoise_steps=2",
        "generator=generator",
        "autoencoder=autoencoder",
        "application.classes=[3,8]",
        "application.num_per_class=3",
        "seed=5",
    )
    bigr(trained, "sample", *common, "hydra.run.dir=s1", "batch_size=6")
    bigr(trained, "sample", *common, "hydra.run.dir=s2", "batch_size=4")
    names = [
        f"class_{c:04d}_seed_{5 + 3 * i + j:06d}.png"
        for i, c in enumerate((3, 8))
        for j in range(3)
    ]
    assert sorted(path.name for path in (trained / "s1" / "images").iterdir()) == names
    for name in names:
        first, second = (Image.open(trained / run / "images" / name) for run in ("s1", "s2"))
        assert first.size == (16, 16)
        assert first.tobytes() == second.tobytes()


def test_sweep(trained: Path) -> None:
    bigr(
        trained,
        "evaluate",
        "-m",
        "sampler=digits",
        "sampler.num_denoise_steps=2",
        "evaluation.count=20",
        "evaluation.inpainting_sampler.num_denoise_steps=2",
        "generator=generator",
        "autoencoder=autoencoder",
        "sampler.guidance_scale=1.0,2.5",
        "hydra.sweep.dir=sweep",
    )
    scales = [
        json.loads((trained / "sweep" / job / "metrics.json").read_text())["sampler"]
        for job in ("0", "1")
    ]
    assert [scale["guidance_scale"] for scale in scales] == [1.0, 2.5]


def test_wandb_offline(trained: Path) -> None:
    pytest.importorskip("wandb")
    bigr(
        trained,
        "train",
        "experiment=digits_autoencoder",
        *SHORT,
        *SMALL_CODE,
        "trainer.max_steps=5",
        "logger=[csv,wandb]",
        "hydra.run.dir=with_wandb",
    )
    runs = list((trained / "with_wandb" / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert list((runs[0] / "files" / "media").rglob("*.png"))


def test_killed_and_resumed(trained: Path) -> None:
    """SIGKILL in the middle, then resume=auto: the weights of the run that was left alone."""
    overrides = (
        *("experiment=digits_autoencoder", *SHORT, *SMALL_CODE, "trainer.max_steps=25"),
        "callbacks.checkpoint.every_n_steps=2",
    )
    bigr(trained, "train", *overrides, "hydra.run.dir=left_alone")
    command = [sys.executable, "-m", "bigr.train", *overrides, "hydra.run.dir=killed"]
    process = subprocess.Popen(
        command,
        cwd=trained,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = trained / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while not any(checkpoints.glob("step_*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (trained / "killed" / "autoencoder.safetensors").exists()
    bigr(trained, "train", *overrides, "hydra.run.dir=killed", "resume=auto")
    first, second = (
        load_file(trained / run / "autoencoder.safetensors") for run in ("left_alone", "killed")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_finished_run_is_left_as_it_is(trained: Path) -> None:
    """resume=auto on a finished run trains no step and writes the same weights."""
    before = load_file(trained / "autoencoder" / "autoencoder.safetensors")
    bigr(
        trained,
        "train",
        *("experiment=digits_autoencoder", *SHORT, *SMALL_CODE, "trainer.max_steps=10"),
        "hydra.run.dir=autoencoder",
        "resume=auto",
    )
    after = load_file(trained / "autoencoder" / "autoencoder.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
