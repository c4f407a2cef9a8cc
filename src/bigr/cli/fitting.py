"""The commands that lead from a folder of images to a trained generator."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Literal

from bigr.cli.command_words import command_line, override
from bigr.cli.configuration import ConfigError, autoencoder_sizes
from bigr.cli.fit_images import Images

Size = Literal["small", "large"]
GRID_SIZE = 8
"""Tokens per side of the codes; other image sizes get the nearest possible number."""
BATCH_SIZE = 32
MAX_CLASSES = 8
"""Number of classes in the picture of samples."""
PER_CLASS = 8
MACHINES: dict[Size, str] = {"small": "a CPU", "large": "a GPU"}


@dataclasses.dataclass(frozen=True)
class FitStep:
    """One command of the plan."""

    name: str
    purpose: str
    words: tuple[str, ...]
    product: Path
    """File or folder that exists after the command."""

    @property
    def command(self) -> str:
        """The command as it can be pasted into a shell."""
        return command_line(*self.words)


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Training steps, number of samples that are scored, and networks of a size."""

    autoencoder_steps: int
    generator_steps: int
    num_scored: int
    autoencoder: tuple[str, ...] = ("experiment=crops_autoencoder",)
    generator: tuple[str, ...] = ("experiment=crops_generator",)
    trainer: tuple[str, ...] = ()


SCALES: dict[Size, _Scale] = {
    "small": _Scale(400, 700, 100),
    "large": _Scale(
        10_000,
        20_000,
        1000,
        (
            "experiment=crops_autoencoder",
            *("autoencoder.base_channels=64", "autoencoder.res_blocks=2"),
        ),
        (
            *("experiment=gpu_day_generator", "model=s", "global_batch_size=null"),
            "callbacks.ema.decay=0.999",
        ),
        ("trainer=gpu", "trainer.devices=1"),
    ),
}


def choose_size(size: Literal["auto", "small", "large"]) -> Size:
    """Return ``size``, where ``auto`` means ``large`` with a GPU and ``small`` without one."""
    if size != "auto":
        return size
    import torch

    return "large" if torch.cuda.is_available() else "small"


def plan(
    images: Images,
    output: Path,
    *,
    image_size: int,
    size: Size,
    autoencoder_steps: int | None = None,
    generator_steps: int | None = None,
    pretrained: str | None = None,
    seed: int = 0,
) -> list[FitStep]:
    """Return the commands in the order in which they are run.

    Args:
        images: the images.
        output: folder for everything that the commands write.
        image_size: side in pixels to which the images are cropped.
        size: size of the networks.
        autoencoder_steps: training steps of the B-AE; None takes the default of ``size``.
        generator_steps: training steps of the generator; None takes the default of ``size``.
        pretrained: trained models whose B-AE is used, and whose generator is fine-tuned. The images
            then have the size that this B-AE was trained on. None trains both from scratch.
        seed: seed of all commands.

    Raises:
        ValueError: if the B-AE cannot have this image size, or there are no such trained models.
    """
    scale, source = SCALES[size], None
    if pretrained is not None:
        source, image_size = _pretrained_autoencoder(pretrained, autoencoder_steps)
    multipliers = ",".join(["1", *["2"] * _num_halvings(image_size)])
    folder = {n: output / n for n in ("autoencoder", "codes", "generator", "samples")}
    scores = {n: output / n for n in ("reconstruction", "scores")}
    autoencoder = folder["autoencoder"] / "autoencoder.safetensors"
    generator = folder["generator"] / "generator.safetensors"
    models = override("pretrained", output)
    classes = ",".join(map(str, range(min(len(images.classes), MAX_CLASSES))))

    def train(name: str, steps: int, *words: str) -> tuple[str, ...]:
        return (
            *("bigr.train", *words, *scale.trainer),
            f"data.batch_size={min(BATCH_SIZE, images.num_train)}",
            *(f"trainer.max_steps={steps}", f"trainer.val_check_interval={math.ceil(steps / 4)}"),
            *(f"seed={seed}", override("hydra.run.dir", folder[name]), "resume=auto"),
        )

    take_autoencoder = FitStep(
        "autoencoder",
        f"take the B-AE of {pretrained}, which turns images into binary codes",
        ("bigr.convert", str(source), str(autoencoder), "--force"),
        autoencoder,
    )
    steps = generator_steps or scale.generator_steps
    fine_tuning = (
        *("experiment=finetune", override("task.init_from", pretrained or "")),
        *(f"task.lr_scheduler.warmup_steps={min(100, steps // 4)}", "callbacks.ema.decay=0.99"),
        *(() if scale.trainer else ("trainer=cpu",)),
    )
    return [
        take_autoencoder
        if pretrained is not None
        else FitStep(
            "autoencoder",
            "train the B-AE, which turns images into binary codes",
            train(
                "autoencoder",
                autoencoder_steps or scale.autoencoder_steps,
                *(*scale.autoencoder, override("data.root", images.root), "resolution=32"),
                f"resolution.image_size={image_size}",
                f"autoencoder.channel_multipliers=[{multipliers}]",
            ),
            autoencoder,
        ),
        FitStep(
            "codes",
            "encode all images once",
            (
                *("bigr.tokenize", override("autoencoder", autoencoder), f"seed={seed}"),
                *(override("data.root", images.root), override("output", folder["codes"])),
                *("data.num_workers=0", override("hydra.run.dir", output / "tokenize")),
                *scale.trainer,
            ),
            folder["codes"] / "manifest.json",
        ),
        FitStep(
            "generator",
            "train the generator on the codes",
            train(
                "generator",
                steps,
                *(scale.generator if pretrained is None else fine_tuning),
                *("data=codes", override("data.root", folder["codes"])),
                override("task.autoencoder", autoencoder),
            ),
            generator,
        ),
        FitStep(
            "samples",
            "sample images of every class",
            (
                *("bigr.sample", models, f"seed={seed}", f"application.classes=[{classes}]"),
                f"application.num_per_class={PER_CLASS}",
                override("hydra.run.dir", folder["samples"]),
            ),
            folder["samples"] / "images",
        ),
        FitStep(
            "reconstruction",
            "score the reconstructions of the B-AE",
            (
                *("bigr.evaluate", "evaluation=reconstruction"),
                *(override("data.root", images.root), override("autoencoder", autoencoder)),
                *("data.num_workers=0", override("hydra.run.dir", scores["reconstruction"])),
            ),
            scores["reconstruction"] / "metrics.json",
        ),
        FitStep(
            "scores",
            "score samples with a classifier of the images",
            (
                *("bigr.evaluate", "evaluation=own", models, override("reference", images.root)),
                f"evaluation.count={scale.num_scored}",
                *(f"evaluation.image_size={image_size}", "evaluation.batch_size=64"),
                override("hydra.run.dir", scores["scores"]),
            ),
            scores["scores"] / "metrics.json",
        ),
    ]


def _pretrained_autoencoder(name: str, autoencoder_steps: int | None) -> tuple[Path, int]:
    """Return the file of the B-AE of trained models, and the size of its images."""
    from bigr.checkpoints.hub import find_model

    if autoencoder_steps is not None:
        raise ConfigError(
            f"pretrained={name} brings its own B-AE, which is not trained: leave out "
            "autoencoder_steps."
        )
    try:
        source = find_model(name, "autoencoder")
        return source, autoencoder_sizes(source).image_size
    except ValueError as error:
        raise ConfigError(f"pretrained={name}: {error}") from error


def _num_halvings(image_size: int) -> int:
    """Return how often the B-AE halves the side of the images."""
    halvings = max(round(math.log2(image_size / GRID_SIZE)), 0)
    if image_size % 2**halvings:
        raise ConfigError(
            f"resolution.image_size={image_size} must be a multiple of {2**halvings}: choose "
            f"{image_size // 2**halvings * 2**halvings}."
        )
    return halvings
