"""Pictures of noise, and their pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image


def noise(width: int = 8, height: int = 8, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.array(picture).astype(int)
