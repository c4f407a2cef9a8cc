"""Crops of scikit-learn's and scikit-image's photographs as an image folder, to try a B-AE on.

pip install scikit-image
python scripts/photographs.py outputs/photographs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
GRID = 4
"""Crops per side of a photograph, evenly spaced."""


def photographs() -> Iterator[tuple[str, Image.Image]]:
    """Name and picture; they lie in the two packages, nothing is downloaded."""
    from sklearn.datasets import load_sample_images

    try:
        from skimage import data
    except ImportError:
        sys.exit("four of the six photographs are scikit-image's: pip install scikit-image")
    bunch = load_sample_images()
    for name, pixels in zip(bunch.filenames, bunch.images, strict=True):
        yield Path(name).stem, Image.fromarray(pixels)
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        yield name, Image.fromarray(np.asarray(getattr(data, name)()))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("give the folder to write into: python scripts/photographs.py outputs/photographs")
    root, count = Path(sys.argv[1]), 0
    for name, photograph in photographs():
        tops, lefts = (
            np.linspace(0, side - SIDE, GRID, dtype=int).tolist()
            for side in (photograph.height, photograph.width)
        )
        for top in tops:
            for left in lefts:
                crop = photograph.crop((left, top, left + SIDE, top + SIDE))
                for split in ("train", "val"):
                    path = root / split / name / f"{top:03d}_{left:03d}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    crop.save(path)
                count += 1
    print(f"{root}: {count} crops of {SIDE}x{SIDE} pixels")


if __name__ == "__main__":
    main()
