"""The centre crop of ADM (guided-diffusion, arXiv 2105.05233), ten crops, and mirrored views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
from PIL import Image
from torch import Tensor

from bigr.data.decoding import BrokenImageError, Decoder
from bigr.data.image_arrays import pil_to_tensor, to_pil

View = Literal["center", "mirror", "ten_crop"]
VIEWS: tuple[str, ...] = get_args(View)
TEN_CROP_MARGIN = 1.1
"""Ten crops are cut from a centre crop that is this much larger (LlamaGen, arXiv 2406.06525)."""
LARGEST_ASPECT = 64


def check_views(names: Sequence[str]) -> tuple[View, ...]:
    """Return ``names``, or raise ``ValueError`` if views are unknown, repeated or missing."""
    unknown = [name for name in names if name not in VIEWS]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(
            f"views={list(names)}: give one or more of {', '.join(VIEWS)}, without repetition."
        )
    return cast(tuple[View, ...], tuple(names))


def count_views(views: Sequence[View]) -> int:
    """Return the number of pictures per image; ``ten_crop`` counts as ten."""
    return sum(10 if view == "ten_crop" else 1 for view in views)


def center_crop_pil(image: Image.Image, size: int) -> Image.Image:
    """Compute the centre crop of ADM with Pillow.

    The image is halved with a box filter as long as its shorter side is at least twice ``size``,
    resized bicubically such that the shorter side is ``size``, and cropped at the centre.

    Args:
        image: a picture of any size.
        size: side of the result in pixels.
    """
    image = _halve(image, size)
    width, height = _scaled(image.size, size)
    image = image.resize((width, height), resample=Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def center_crop(image: Tensor, size: int, decoder: Decoder = "torchvision") -> Tensor:
    """Compute the centre crop of ADM; see :func:`center_crop_pil`.

    Args:
        image: (3, H, W) uint8.
        size: side of the result in pixels.
        decoder: ``pil`` for the exact arithmetic of Pillow. ``torchvision`` is faster for the
            bicubic resizing, with a mean difference of about 0.004 of 255 levels.

    Returns:
        (3, size, size) uint8.

    Raises:
        BrokenImageError: if one side is more than 64 times the other.
    """
    height, width = image.shape[-2:]
    if max(height, width) > LARGEST_ASPECT * min(height, width):
        raise BrokenImageError(
            f"{width}x{height} pixels: one side is more than {LARGEST_ASPECT} times as long as the "
            "other"
        )
    if decoder == "pil":
        return pil_to_tensor(center_crop_pil(to_pil(image), size))
    if min(height, width) >= 2 * size:
        image = pil_to_tensor(_halve(to_pil(image), size))
        height, width = image.shape[-2:]
    from torchvision.transforms.v2 import functional as F  # takes two seconds at first

    width, height = _scaled((width, height), size)
    image = F.resize(image, [height, width], F.InterpolationMode.BICUBIC, antialias=True)
    left, top = (width - size) // 2, (height - size) // 2
    return image[:, top : top + size, left : left + size].contiguous()


def make_views(
    image: Tensor, size: int, views: Sequence[View], decoder: Decoder = "torchvision"
) -> Tensor:
    """Compute several views of one image.

    Args:
        image: (3, H, W) uint8.
        size: side of the views in pixels.
        views: ``center`` (the centre crop), ``mirror`` (the same, mirrored), ``ten_crop`` (ten
            views: corners and centre of a centre crop that is 1.1 times as wide, also mirrored).
        decoder: see :func:`center_crop`.

    Returns:
        (V, 3, size, size) uint8.
    """
    center = center_crop(image, size, decoder) if set(views) & {"center", "mirror"} else None
    pictures: list[Tensor] = []
    for view in views:
        if view == "ten_crop":
            from torchvision.transforms.v2 import functional as F

            wide = center_crop(image, int(size * TEN_CROP_MARGIN), decoder)
            pictures.extend(F.ten_crop(wide, [size, size]))
        elif center is not None:
            pictures.append(center if view == "center" else center.flip(-1))
    return torch.stack(pictures)


def _halve(image: Image.Image, size: int) -> Image.Image:
    while min(image.size) >= 2 * size:
        halved = (image.size[0] // 2, image.size[1] // 2)
        image = image.resize(halved, resample=Image.Resampling.BOX)
    return image


def _scaled(sides: tuple[int, int], size: int) -> tuple[int, int]:
    """Scale both sides such that the shorter one becomes ``size``."""
    scale = size / min(sides)
    return round(sides[0] * scale), round(sides[1] * scale)
