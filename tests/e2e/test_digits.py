"""Both stages, evaluation, sampling and sweeps, through the command line, in a few steps."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from bigr import load_autoencoder, load_generator
from bigr.data.digits import load_digits
from bigr.data.image_arrays import save_picture, to_pil
from bigr.models.codes import grid_to_tokens
from tests.conftest import REPOSITORY
from tests.e2e.digits import SHORT, SMALL, SMALL_CODE, bigr, train
from tests.processes import ReadyProcess, environment, python

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a B-AE and a generator of ten steps each."""
    return train(tmp_path_factory.mktemp("digits"))


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
        "evaluation=digits",
        "sampler=digits",
        "sampler.num_denoise_steps=2",
        "evaluation.count=60",
        "evaluation.inpainting_sampler.num_denoise_steps=2",
        "generator=generator",
        "autoencoder=autoencoder",
        "hydra.run.dir=evaluation",
    )
    assert "recognised as the requested class" in output
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
    bigr(trained, "sample", *common, "hydra.run.dir=s3", "batch_size=2", "devices=2", "device=cpu")
    names = [
        f"class_{c:04d}_seed_{5 + 3 * i + j:06d}.png"
        for i, c in enumerate((3, 8))
        for j in range(3)
    ]
    assert sorted(path.name for path in (trained / "s1" / "images").iterdir()) == names
    for name in names:
        first, *others = (Image.open(trained / s / "images" / name) for s in ("s1", "s2", "s3"))
        assert first.size == (16, 16)
        assert all(other.tobytes() == first.tobytes() for other in others)
    assert Image.open(trained / "s3" / "samples.png").size == (3 * 66 + 2, 2 * 66 + 2)
    speed = json.loads((trained / "s3" / "speed.jsonl").read_text())
    assert speed["images"] == 6
    assert speed["processes"] == 2
    assert speed["images_per_second"] == pytest.approx(6 / speed["seconds"])


def test_sweep(trained: Path) -> None:
    bigr(
        trained,
        "evaluate",
        "-m",
        "evaluation=digits",
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


def test_sweep_of_samples(trained: Path) -> None:
    """A row of images a job, with its settings, from the same seeds."""
    bigr(
        trained,
        "sample",
        *("-m", "sampler=digits", "sampler.num_denoise_steps=2", "sampler.guidance_scale=1.0,4.0"),
        *("generator=generator", "autoencoder=autoencoder", "application.classes=[3,8]"),
        "hydra.sweep.dir=sample_sweep",
    )
    grid = np.array(Image.open(trained / "sample_sweep" / "sweep.png"))
    assert grid.shape[0] == 2 * 66 + 2
    for row, job in enumerate(("0", "1")):
        paths = sorted((trained / "sample_sweep" / job / "images").iterdir())
        assert len(paths) == 2
        for column, path in enumerate(paths):
            expected = np.array(Image.open(path)).repeat(4, 0).repeat(4, 1)
            left = grid.shape[1] - (2 - column) * 66
            shown = grid[2 + 66 * row : 66 + 66 * row, left : left + 64]
            assert np.array_equal(shown, expected)
    labels = grid[:, : grid.shape[1] - 2 * 66]
    assert (labels < 128).any()


@pytest.mark.parametrize("devices", ["1", "2"])
def test_probe(trained: Path, devices: str) -> None:
    """Every layer, as good as scikit-learn's logistic regression on the same features."""
    from sklearn.linear_model import LogisticRegression

    output = bigr(
        trained,
        "probe",
        *("experiment=digits_probe", "generator=generator", "autoencoder=autoencoder"),
        *("probe.chunk_size=200", "probe.head.epochs=400", "device=cpu"),  # until it has converged
        *(f"devices={devices}", f"hydra.run.dir=probe{devices}"),
    )
    assert "layer 1" in output
    run = trained / f"probe{devices}"
    metrics = json.loads((run / "metrics.json").read_text())
    splits = {}
    for split in ("train", "val"):
        files = sorted((run / "features" / split).glob("*.npz"))
        arrays = [np.load(file) for file in files]
        splits[split] = (
            np.concatenate([part["features"] for part in arrays]).astype(np.float64),
            np.concatenate([part["labels"] for part in arrays]),
        )
    assert splits["train"][0].shape == (1437, 2, 64)
    for layer in (0, 1):
        (x, labels), (y, expected) = ((f[:, layer], label) for f, label in splits.values())
        mean, std = x.mean(0), x.std(0)
        regression = LogisticRegression(max_iter=1000).fit((x - mean) / std, labels)
        theirs = regression.score((y - mean) / std, expected)
        assert theirs > 0.3
        assert max(metrics["layers"][str(layer)]["top1"]) >= theirs - 0.01
    assert Image.open(run / "layers.png").size[0] > 400
    assert Image.open(run / "tsne.png").size[0] > 400
    # The features are those of the model's own function.
    model, autoencoder = (
        load_generator(trained / "generator"),
        load_autoencoder(trained / "autoencoder"),
    )
    with torch.no_grad():
        probs = autoencoder.encode(load_digits("test", 16).images[:5])
        codes = grid_to_tokens(autoencoder.quantize(probs, deterministic=True))
        hidden = model.features(codes, torch.full((5,), 10), 1).mean(dim=1)
    np.testing.assert_allclose(splits["val"][0][:5, 1], hidden.numpy(), rtol=2e-3, atol=2e-3)


def test_figures_while_training(trained: Path) -> None:
    bigr(
        trained,
        "train",
        *("experiment=digits_generator", *SHORT, *SMALL, "trainer.max_steps=10"),
        *("task.autoencoder=autoencoder", "sampler.num_denoise_steps=2"),
        *("sample_metrics=digits", "callbacks.sample_metrics.count=60", "hydra.run.dir=figures"),
    )
    with (trained / "figures" / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = [float(row["val/digits_frechet_60"]) for row in rows if row["val/digits_frechet_60"]]
    assert len(found) == 2
    assert all(value > 1 for value in found)  # ten steps don't draw digits
    assert not any("fid" in name for name in rows[0])


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
    command = ("-m", "bigr.train", *overrides, "hydra.run.dir=killed")
    process = ReadyProcess(*command, cwd=trained)
    checkpoints = trained / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while not any(checkpoints.glob("step_*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
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


def test_applications(trained: Path) -> None:
    """Each of them from the command line; the known pixels of edits stay."""
    digit = load_digits("test", 16).images[0]
    before = np.array(Image.open(save_picture(to_pil(digit), trained / "digit.png")))
    models = ("generator=generator", "autoencoder=autoencoder", "sampler=digits")
    few = ("sampler.num_iterations=2", "sampler.num_denoise_steps=2")

    def sample(name: str, *overrides: str) -> list[Image.Image]:
        given = [f"application.{override}" for override in overrides]
        bigr(
            trained,
            "sample",
            f"application={name}",
            *given,
            *models,
            *few,
            f"hydra.run.dir=a/{name}",
            "animate=true",
        )
        assert (trained / "a" / name / "samples.png").is_file()
        return [Image.open(path) for path in sorted((trained / "a" / name / "images").iterdir())]

    box = "[[0,0,8,16]]"
    edits = sample("edit", "image=digit.png", f"mask={box}", "class_name=8", "num_variants=3")
    edits += sample("inpaint", "image=digit.png", f"mask={box}", "num_variants=2")
    edits += sample("outpaint", "image=digit.png", "keep=[[8,0,16,16]]", "num_variants=2")
    assert len(edits) == 7
    for edited in edits:
        assert np.array_equal(np.array(edited)[:, 8:], before[:, 8:])
    assert np.array_equal(np.array(edits[3]), np.array(edits[5]))  # the same mask, inverted
    unmasking = Image.open(trained / "a" / "edit" / "unmasking.gif")
    assert unmasking.size == (3 * 66 + 2, 68)
    assert unmasking.n_frames > 1  # type: ignore[attr-defined]
    assert len(sample("enrich", "image=digit.png", "num_variants=2")) == 2
    assert len(sample("interpolate", "first=3", "second=8", "ratios=[0,0.5,1]")) == 3
    for name in ("interpolation.gif", "interpolation.webp"):
        assert Image.open(trained / "a" / "interpolate" / name).size == (16, 16)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("generate", ("[3,8]",)),
        ("inpaint", ("a digit, held out.png", "[[0,0,8,16]]")),
        ("outpaint", ("a digit, held out.png", "[[0,0,8,16]]")),
        ("edit", ("a digit, held out.png", "a mask, painted.png", "8")),
        ("interpolate", ("3", "8")),
        ("enrich", ("a digit, held out.png",)),
    ],
)
def test_scripts(trained: Path, tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    """What each prepares for ``bigr.sample``, files of any name included; and without arguments."""
    save_picture(to_pil(load_digits("test", 16).images[0]), trained / "a digit, held out.png")
    Image.new("L", (16, 16), 255).save(trained / "a mask, painted.png")
    script = str(REPOSITORY / "scripts" / "applications" / f"{name}.sh")
    few = ("sampler.num_iterations=2", "sampler.num_denoise_steps=2")
    # A "python" that prints its arguments, which python() takes over.
    shim = tmp_path / "python"
    shim.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    shim.chmod(0o755)
    variables = {
        **environment(SAMPLER="digits", GENERATOR="generator", AUTOENCODER="autoencoder"),
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    }
    run = [script, *arguments, *few, f"hydra.run.dir=scripts/{name}"]
    words = subprocess.run(run, cwd=trained, env=variables, stdout=subprocess.PIPE, check=True)
    result = python(*words.stdout.decode().splitlines(), cwd=trained)
    assert result.returncode == 0, result.stderr
    count = {"generate": 2, "interpolate": 27, "enrich": 1}.get(name, 8)
    assert len(list((trained / "scripts" / name / "images").iterdir())) == count
    config = yaml.safe_load((trained / "scripts" / name / "config.yaml").read_text())
    method = {"generate": "stream"}.get(name, name)
    assert config["application"]["_target_"] == f"bigr.BiGRPipeline.{method}"
    alone = subprocess.run([script], env=variables, capture_output=True, text=True, check=False)
    assert alone.returncode == 2
    assert f"scripts/applications/{name}.sh" in alone.stderr


def test_edits_of_a_data_set(trained: Path) -> None:
    bigr(
        trained,
        "evaluate",
        *("evaluation=edits", "resolution=16", "data=digits", "sampler=digits"),
        *("sampler.num_iterations=2", "sampler.num_denoise_steps=2", "evaluation.count=20"),
        *("generator=generator", "autoencoder=autoencoder", "hydra.run.dir=edits"),
    )
    metrics = json.loads((trained / "edits" / "metrics.json").read_text())
    assert (metrics["count"], metrics["known_tokens_intact"]) == (20, 1.0)
    assert metrics["known_pixels_changed"] == 0.0
    assert Image.open(trained / "edits" / "edits.png").size == (4 * 66 + 2, 8 * 66 + 2)
