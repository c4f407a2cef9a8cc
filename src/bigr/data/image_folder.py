"""Image folders with one directory per class, as ImageNet is unpacked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """ADM's centre crop (guided-diffusion, arXiv 2105.05233).

    Halve with a box filter while the short side is at least twice ``size``, then bicubic so that
    the short side is ``size``, then crop the centre.

    Args:
        image: any size.
        size: side of the result in pixels.
    """
    while min(image.size) >= 2 * size:
        halved = (image.size[0] // 2, image.size[1] // 2)
        image = image.resize(halved, resample=Image.Resampling.BOX)
    scale = size / min(image.size)
    scaled = (round(image.size[0] * scale), round(image.size[1] * scale))
    image = image.resize(scaled, resample=Image.Resampling.BICUBIC)
    left, top = (image.size[0] - size) // 2, (image.size[1] - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image to (3, H, W) uint8."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


class ClassFolders(ImageFolder):
    """``root/<class>/*`` as centre-cropped (3, size, size) uint8 tensors.

    Args:
        root: folder with one folder per class.
        image_size: side of the square crop.

    Raises:
        ValueError: if ``root`` isn't a folder of class folders with images.
    """

    def __init__(self, root: Path, image_size: int) -> None:
        if not root.is_dir():
            raise ValueError(f"No folder {root}: set data.root to one that holds train/ and val/.")
        transform: Callable[[Image.Image], Tensor] = lambda image: to_tensor(  # noqa: E731
            center_crop(image, image_size)
        )
        try:
            super().__init__(str(root), transform=transform, loader=default_loader)
        except FileNotFoundError as error:
            raise ValueError(f"{root} has no class folders with images in them.") from error
