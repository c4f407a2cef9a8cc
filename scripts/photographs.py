"""Crops of scikit-learn's two photographs as an image folder, to try a B-AE on natural images.

python scripts/photographs.py outputs/photographs
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

SIDE = 32
STEP = 96


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("give the folder to write into: python scripts/photographs.py outputs/photographs")
    root, count = Path(sys.argv[1]), 0
    bunch = load_sample_images()
    for name, pixels in zip(bunch.filenames, bunch.images, strict=True):
        photograph = Image.fromarray(pixels)
        for top in range(0, photograph.height - SIDE, STEP):
            for left in range(0, photograph.width - SIDE, STEP):
                crop = photograph.crop((left, top, left + SIDE, top + SIDE))
                for split in ("train", "val"):
                    path = root / split / Path(name).stem / f"{top:03d}_{left:03d}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    crop.save(path)
                count += 1
    print(f"{root}: {count} crops of {SIDE}x{SIDE} pixels")


if __name__ == "__main__":
    main()
