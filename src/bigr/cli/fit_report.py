"""The report of ``python -m bigr.fit``: pictures, scores, commands, and what to do next."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bigr.cli.command_words import command_line, override
from bigr.cli.fit_images import Images
from bigr.cli.fitting import FitStep
from bigr.data.files import write_atomically
from bigr.data.image_arrays import pil_to_tensor, save_grid
from bigr.data.image_dataset import ImageSet
from bigr.data.sources.find import find_splits
from bigr.evaluation.nearest import nearest_in_pixels
from bigr.evaluation.report_text import markdown_table

REPORT = "report.md"
NEAREST = "nearest.png"
NUM_COMPARED = 16
"""Number of samples in the picture of nearest images."""
COLUMNS = 8
EVALUATIONS = {"reconstruction": "reconstructions", "scores": "samples"}
MEANINGS = {
    "psnr": (
        "PSNR of the reconstructions (dB)",
        "Higher is better. No sample can be sharper than the reconstructions.",
    ),
    "ssim": ("SSIM of the reconstructions", "1 means that they equal the images."),
    "own_accuracy": (
        "accuracy of the samples",
        "Share that a classifier of your images recognises as the requested class.",
    ),
    "own_precision": ("precision", "Share of the samples that resemble your images."),
    "own_recall": ("recall", "Share of your images that resemble samples; low without variety."),
    "own_frechet": (
        "Frechet distance",
        "Lower is better. Compare it only with runs on the same images.",
    ),
    "val/bit_accuracy": (
        "bit accuracy of the generator",
        "Share of hidden bits of validation images that it predicts; 0.5 is chance.",
    ),
    "val/loss": (
        "validation loss of the generator",
        "Lower is better. If it rises during training, the generator overfits.",
    ),
}
"""Titles and meanings of the scores in the report, by the names of the figures."""


def write_report(images: Images, steps: Sequence[FitStep], output: Path) -> Path:
    """Write ``report.md`` and a picture of the samples above the most similar training images.

    Args:
        images: the images of the run.
        steps: the finished commands.
        output: folder of the run.

    Returns:
        The path of the report.

    Raises:
        ValueError: if the result of a command is missing or damaged.
    """
    products = {step.name: step.product for step in steps}
    image_size = draw_nearest(images, products["samples"], output / NEAREST)
    models = override("pretrained", output)
    from_models = [word for word in steps[2].words if word.startswith("task.init_from=")]
    longer = ("autoencoder_steps=5000", "generator_steps=10000")
    if from_models:
        longer = (from_models[0].replace("task.init_from", "pretrained"), "generator_steps=10000")
    following = (
        ("bigr.sample", models, "application.classes=[0]", "seed=1000"),
        ("bigr.demo", models),
        (
            *("bigr.fit", override("images", images.root), f"resolution.image_size={image_size}"),
            *longer,
            override("hydra.run.dir", f"{output}_longer"),
        ),
    )
    lines = [
        f"# A generator trained on {Path(images.root).resolve().name}",
        "",
        f"{images}.",
        "",
        *_section("Samples, one row per class", _last(output / "samples", "*.png"), output),
        *_section(
            "Samples in odd rows, the most similar training images below them",
            output / NEAREST,
            output,
        ),
        "If a sample equals the image below it, the generator repeats its training set. In that "
        "case, train it for fewer steps, or on more images.",
        "",
        *_section(
            "Validation images in odd rows, their reconstructions below them",
            _last(output / "autoencoder" / "pictures", "*.png"),
            output,
        ),
        "## Scores",
        "",
        markdown_table(("score", "value", "meaning"), list(_scores(products, output))),
        "All scores, with explanations: "
        + ", ".join(f"[{title}]({name}/report.md)" for name, title in EVALUATIONS.items())
        + ".",
        "",
        "## Commands",
        "",
        "```",
        *(step.command for step in steps),
        "```",
        "",
        "## Next",
        "",
        "```",
        *(command_line(*words) for words in following),
        "```",
    ]
    write_atomically(output / REPORT, ("\n".join(lines) + "\n").encode())
    return output / REPORT


def draw_nearest(images: Images, samples: Path, picture: Path) -> int:
    """Draw samples, and below each of them the training image with the smallest squared error.

    Returns the side of the images in pixels.

    Args:
        images: the images of the run.
        samples: folder with the samples.
        picture: the file to write.

    Raises:
        ValueError: if there are no samples.
    """
    paths = sorted(samples.glob("*.png"))
    if not paths:
        raise ValueError(f"{samples} has no samples: remove it, and run the command again.")
    chosen = paths[:: max(len(paths) // NUM_COMPARED, 1)][:NUM_COMPARED]
    drawn = torch.stack([pil_to_tensor(Image.open(path).convert("RGB")) for path in chosen])
    size = drawn.shape[-1]
    train = ImageSet(find_splits(Path(images.root))[0], size)
    found = nearest_in_pixels(drawn, train, images.root)
    nearest = found.nearest[found.indices.argsort()]
    # Two rows for every eight samples, the last ones filled up with white.
    columns = min(COLUMNS, len(drawn))
    rows = []
    for start in range(0, len(drawn), columns):
        for part in (drawn[start : start + columns], nearest[start : start + columns]):
            white = part.new_full((columns - len(part), *part.shape[1:]), 255)
            rows += [part, white]
    save_grid(torch.cat(rows) / 255, picture, columns)
    return size


def _section(title: str, picture: Path | None, output: Path) -> list[str]:
    if picture is None:
        return []
    return [f"## {title}", "", f"![{title}]({picture.relative_to(output)})", ""]


def _last(folder: Path, pattern: str) -> Path | None:
    return max(folder.glob(pattern), key=lambda path: path.name, default=None)


def _scores(products: dict[str, Path], output: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table of scores: title, value and meaning."""
    figures: dict[str, Any] = _last_validation(output / "generator" / "csv" / "metrics.csv")
    for name in EVALUATIONS:
        try:
            figures.update(json.loads(products[name].read_text())["figures"])
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{products[name]} is missing or damaged: remove its folder, and run the command "
                "again."
            ) from error
    for figure, (title, meaning) in MEANINGS.items():
        if figure in figures:
            yield title, f"{figures[figure]:.4g}", meaning


def _last_validation(path: Path) -> dict[str, float]:
    """Return the last value of each column of a metrics file that belongs to validation."""
    found: dict[str, float] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found.update(
                    {k: float(v) for k, v in row.items() if k and k.startswith("val/") and v}
                )
    return found
