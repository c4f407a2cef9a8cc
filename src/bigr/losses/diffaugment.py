"""Differentiable augmentation of the images for the discriminator (arXiv 2006.10738)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

POLICIES = ("color", "translation")
MAX_SHIFT = 0.125


def augment(images: Tensor, policies: tuple[str, ...]) -> Tensor:
    """Change the images (B, 3, H, W) at random, by differentiable operations.

    ``color`` adds U(-0.5, 0.5), multiplies the distance from the grey value of each pixel by
    U(0, 2), and the distance from the mean of the image by U(0.5, 1.5). ``translation`` shifts by
    up to an eighth of a side and fills with zeros. The random numbers come from torch's global
    generator on the device of the images.

    Args:
        images: (B, 3, H, W).
        policies: any of ``color`` and ``translation``, applied in this order.
    """
    if "color" in policies:
        images = _color(images)
    if "translation" in policies:
        images = _translate(images)
    return images


def _color(images: Tensor) -> Tensor:
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (saturation * 2) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def _translate(images: Tensor) -> Tensor:
    """Pad each image with zeros, and cut it out at a random place."""
    count, _, height, width = images.shape
    device = images.device
    max_y, max_x = round(height * MAX_SHIFT), round(width * MAX_SHIFT)
    shift_y = torch.randint(0, 2 * max_y + 1, (count, 1), device=device)
    shift_x = torch.randint(0, 2 * max_x + 1, (count, 1), device=device)
    rows = (torch.arange(height, device=device) + shift_y)[:, :, None]
    columns = (torch.arange(width, device=device) + shift_x)[:, None, :]
    padded = F.pad(images, (max_x, max_x, max_y, max_y)).permute(0, 2, 3, 1)
    chosen = torch.arange(count, device=device)[:, None, None]
    return padded[chosen, rows, columns].permute(0, 3, 1, 2)
