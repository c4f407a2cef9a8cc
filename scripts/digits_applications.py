"""Measure and draw the applications on digits, with the models of ``make demo``.

    python scripts/digits_applications.py outputs/demo docs/images/applications.png

A classifier of real digits reads edits (a 3 into an 8) and interpolations, and the known pixels of
edits are compared with the originals. Exits with code 1 if a claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bigr import BiGRPipeline, SamplerConfig
from bigr.data.digits import load_digits
from bigr.data.image_arrays import save_grid, to_tensor
from bigr.metrics.digit_classifier import DigitClassifier

SETTINGS = SamplerConfig(
    guidance_scale=2.5,
    num_iterations=16,
    gumbel_temperature=0.3,
    num_denoise_steps=50,
    mask_schedule="linear",
    order="random",
)
SIZE = 16
NUM_EDITS = 200
NUM_SEEDS = 40
COLUMNS = 10
GREY = 0.5
LEFT = [[0, 0, 10, SIZE]]
"""The region of a 3 that is repainted: its left ten columns of sixteen, where an 8 differs."""
RATIOS = [index / 10 for index in range(11)]
PAIRS = ((3, 8), (1, 7), (0, 6))
MIN_EDITED = 0.9
SLACK = 0.05
"""Largest decrease of the share of 40 digits that is accepted from one ratio to the next."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, help="folder with generator/ and autoencoder/")
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    pipeline = BiGRPipeline.from_pretrained(options.models, device="cpu", batch_size=256)
    reader = DigitClassifier(load_digits("train", SIZE))
    test = load_digits("test", SIZE)
    failed = [*edits(pipeline, reader, test.images[test.labels == 3])]
    failed += interpolations(pipeline, reader)
    save_grid(rows(pipeline, test.images, test.labels), options.picture, COLUMNS)
    print(options.picture)
    if failed:
        sys.exit("; ".join(failed))


def tensors(pictures: list[Image.Image]) -> Tensor:
    return torch.stack([to_tensor(picture) for picture in pictures])


def edits(pipeline: BiGRPipeline, reader: DigitClassifier, threes: Tensor) -> list[str]:
    """Edit held-out 3s into 8s, several variants of each, and return what is wrong."""
    per_image = -(-NUM_EDITS // len(threes))
    edited: list[Tensor] = []
    for number, three in enumerate(threes):
        variants = tensors(
            pipeline.edit(
                three, LEFT, class_name=8, num_variants=per_image, seed=1000 * number,
                sampler=SETTINGS,
            )
        )  # fmt: skip
        kept = (three * 255).round() / 255
        if not torch.equal(variants[..., 10:], kept[..., 10:].expand_as(variants[..., 10:])):
            return ["a known pixel was changed"]
        edited += variants
    images = torch.stack(edited[:NUM_EDITS])
    share = reader.accuracy(images, torch.full((len(images),), 8))
    print(f"{len(images)} held-out 3s edited into 8s, {share:.1%} read as 8; known pixels intact")
    return [] if share >= MIN_EDITED else [f"edits: {share:.1%} < {MIN_EDITED:.0%}"]


def interpolations(pipeline: BiGRPipeline, reader: DigitClassifier) -> list[str]:
    """Interpolate between pairs of digits, and return which are wrong."""
    failed = []
    for first, second in PAIRS:
        read = []
        for seed in range(NUM_SEEDS):
            pictures = pipeline.interpolate(
                second, first, ratios=RATIOS, seed=seed, sampler=SETTINGS
            )
            images = tensors(pictures)
            read.append([reader.accuracy(image[None], torch.tensor([second])) for image in images])
        shares = np.mean(read, axis=0)
        print(f"{first} to {second}: read as {second}: " + " ".join(f"{s:.2f}" for s in shares))
        if (np.diff(shares) < -SLACK).any() or shares[0] > SLACK or shares[-1] < MIN_EDITED:
            failed.append(f"interpolation {first} to {second} isn't monotone")
    return failed


def rows(pipeline: BiGRPipeline, images: Tensor, labels: Tensor) -> Tensor:
    """Return a row each of inpainting, outpainting, editing, interpolation and enrichment."""
    original = {digit: images[labels == digit][0] for digit in range(10)}
    number = COLUMNS - 2
    half, middle = [[0, 8, SIZE, SIZE]], [[4, 0, 12, SIZE]]
    free = {"num_variants": number, "sampler": SETTINGS}

    def shown(image: Tensor, box: list[list[int]], *, inverted: bool = False) -> list[Tensor]:
        left, top, right, bottom = box[0]
        is_hidden = torch.zeros(SIZE, SIZE, dtype=torch.bool)
        is_hidden[top:bottom, left:right] = True
        return [image, torch.where(is_hidden ^ inverted, GREY, image)]

    parts = [
        *shown(original[9], half),
        *tensors(pipeline.inpaint(original[9], half, **free)),
        *shown(original[4], middle, inverted=True),
        *tensors(pipeline.outpaint(original[4], middle, **free)),
        *shown(original[3], LEFT),
        *tensors(pipeline.edit(original[3], LEFT, class_name=8, **free)),
        *tensors(
            pipeline.interpolate(
                8, 3, ratios=[i / (COLUMNS - 1) for i in range(COLUMNS)], seed=4, sampler=SETTINGS
            )
        ),
        original[2],
        tensors(pipeline.reconstruct(original[2]))[0],
        *tensors(pipeline.enrich(original[2], class_name=2, **free)),
    ]
    return torch.stack(parts)


if __name__ == "__main__":
    main()
