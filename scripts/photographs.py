"""Write crops of photographs from scikit-learn and scikit-image as a folder of training images.

pip install scikit-image
python scripts/photographs.py outputs/photographs
python scripts/photographs.py outputs/crops --random 1000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
GRID = 4
"""Crops per side of a photograph, evenly spaced."""


def photographs() -> Iterator[tuple[str, Image.Image]]:
    """Yield the name and the picture of each photograph. The packages contain them."""
    from sklearn.datasets import load_sample_images

    try:
        from skimage import data
    except ImportError:
        sys.exit("four of the six photographs are part of scikit-image: pip install scikit-image")
    bunch = load_sample_images()
    for name, pixels in zip(bunch.filenames, bunch.images, strict=True):
        yield Path(name).stem, Image.fromarray(pixels)
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        yield name, Image.fromarray(np.asarray(getattr(data, name)()))


def evenly(photograph: Image.Image) -> Iterator[tuple[str, int, int]]:
    """Yield split, top and left of evenly spaced crops, the same ones for both splits."""
    tops, lefts = (
        np.linspace(0, side - SIDE, GRID, dtype=int).tolist()
        for side in (photograph.height, photograph.width)
    )
    for top in tops:
        for left in lefts:
            for split in ("train", "val"):
                yield split, top, left


def at_random(photograph: Image.Image, count: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """Yield ``count`` training crops from the left three quarters, and a tenth as many others."""
    random = np.random.default_rng(seed)
    border = photograph.width * 3 // 4
    for split, number, first, last in (
        ("train", count, 0, border - SIDE),
        ("val", count // 10, border, photograph.width - SIDE),
    ):
        for _ in range(number):
            yield (
                split,
                int(random.integers(photograph.height - SIDE)),
                int(random.integers(first, last)),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument(
        "--random",
        type=int,
        metavar="N",
        help="N random training crops of each photograph, and other crops for validation",
    )
    options = parser.parse_args()
    count = 0
    for number, (name, photograph) in enumerate(photographs()):
        places = (
            at_random(photograph, options.random, number) if options.random else evenly(photograph)
        )
        for split, top, left in places:
            path = options.folder / split / name / f"{top:03d}_{left:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph.crop((left, top, left + SIDE, top + SIDE)).save(path)
            count += split == "train"
    print(f"{options.folder}: {count} training crops of {SIDE}x{SIDE} pixels")


if __name__ == "__main__":
    main()
