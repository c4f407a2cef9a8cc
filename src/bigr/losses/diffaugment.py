"""Differentiable augmentation of what the discriminator sees (DiffAugment, arXiv 2006.10738)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

POLICIES = ("color", "translation")
MAX_SHIFT = 0.125


def augment(images: Tensor, policies: tuple[str, ...]) -> Tensor:
    """Change each image at random, in a way that gradients flow through.

    ``color`` adds U(-0.5, 0.5), scales the distance from each pixel's grey by U(0, 2) and the one
    from the image's mean by U(0.5, 1.5). ``translation`` shifts by up to an eighth of a side, and
    fills with zeros. Draws from torch's global generator on the images' device.

    Args:
        images: (B, 3, H, W).
        policies: some of ``color`` and ``translation``, in this order.

    Returns:
        (B, 3, H, W).
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
    """Sample at whole pixels of a padded image, one shift an image."""
    count, _, height, width = images.shape
    most_y, most_x = round(height * MAX_SHIFT), round(width * MAX_SHIFT)
    device = images.device
    shift_y = torch.randint(0, 2 * most_y + 1, (count, 1), device=device)
    shift_x = torch.randint(0, 2 * most_x + 1, (count, 1), device=device)
    rows = (torch.arange(height, device=device) + shift_y)[:, :, None]
    columns = (torch.arange(width, device=device) + shift_x)[:, None, :]
    padded = F.pad(images, (most_x, most_x, most_y, most_y)).permute(0, 2, 3, 1)
    chosen = torch.arange(count, device=device)[:, None, None]
    return padded[chosen, rows, columns].permute(0, 3, 1, 2)
