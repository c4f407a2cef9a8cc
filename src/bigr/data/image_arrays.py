"""Image tensors, PIL images and picture files, converted into each other.

Image tensors are (3, H, W), uint8 or floats in [0, 1]. Torchvision has some of these functions, but
importing it takes several seconds, which is most of the time of a command that draws one image.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from bigr.data.files import replacing

MIN_VISIBLE_SIDE = 64
LABEL_HEIGHT = 14
GRID_GAP = 2
"""Pixels between the pictures of a grid."""


def to_uint8(images: Tensor) -> Tensor:
    """Convert floats to uint8: values are clamped to [0, 1], scaled by 255 and rounded."""
    return (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 images to float32 in [0, 1]; other dtypes are returned unchanged."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def to_pil(image: Tensor) -> Image.Image:
    """Convert an image tensor, or a mask, to a PIL image.

    Args:
        image: (3, H, W) for mode "RGB" or (H, W) for mode "L", on any device: uint8, floats in
            [0, 1], or bool (False becomes black, True white).
    """
    pixels = (image if image.dtype == torch.uint8 else to_uint8(image)).cpu()
    return Image.fromarray((pixels if pixels.ndim == 2 else pixels.permute(1, 2, 0)).numpy())


def to_tensor(picture: Image.Image) -> Tensor:
    """Convert a PIL image of any mode to (3, H, W) float32 in [0, 1]."""
    return to_float(pil_to_tensor(picture.convert("RGB")))


def pil_to_tensor(picture: Image.Image) -> Tensor:
    """Convert a PIL image of mode "RGB" to (3, H, W) uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def grid_image(images: Tensor, columns: int) -> Image.Image:
    """Arrange images in a grid, row by row, on a white background with lines of 2 pixels.

    Images of less than 64 pixels are enlarged by repeating pixels. A single image has no frame.

    Args:
        images: (n, 3, H, W) in [0, 1].
        columns: images per row.
    """
    scale = max(1, MIN_VISIBLE_SIDE // images.shape[-1])
    visible = to_uint8(images).cpu()
    visible = visible.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    count, channels, height, width = visible.shape
    if count == 1:
        return to_pil(visible[0])
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    size = (rows * (height + GRID_GAP) + GRID_GAP, columns * (width + GRID_GAP) + GRID_GAP)
    grid = torch.full((channels, *size), 255, dtype=torch.uint8)
    for number, image in enumerate(visible):
        row, column = divmod(number, columns)
        top, left = row * (height + GRID_GAP) + GRID_GAP, column * (width + GRID_GAP) + GRID_GAP
        grid[:, top : top + height, left : left + width] = image
    return to_pil(grid)


def labelled_rows(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """Arrange labelled rows of pictures on a white background.

    Pictures of less than 64 pixels are enlarged by repeating pixels.

    Args:
        rows: pairs of a label, which is written at the left, and pictures, all of one size.
    """
    font = ImageFont.load_default(size=LABEL_HEIGHT)
    width, height = rows[0][1][0].size
    scale = max(1, MIN_VISIBLE_SIDE // width)
    width, height = width * scale, height * scale
    margin = 2 * LABEL_HEIGHT + math.ceil(max(font.getlength(label) for label, _ in rows))
    columns = max(len(pictures) for _, pictures in rows)
    size = (margin + columns * (width + GRID_GAP), len(rows) * (height + GRID_GAP) + GRID_GAP)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for number, (label, pictures) in enumerate(rows):
        top = GRID_GAP + number * (height + GRID_GAP)
        draw.text((LABEL_HEIGHT, top + height // 2), label, "black", font, anchor="lm")
        for column, picture in enumerate(pictures):
            visible = picture.resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(visible, (margin + column * (width + GRID_GAP), top))
    return canvas


def load_image(path: str | os.PathLike[str]) -> Tensor:
    """Read a picture file as (3, H, W) float32 in [0, 1], without resizing."""
    return to_tensor(load_picture(path))


def load_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Read a picture file completely, so that the file is closed afterwards."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def save_grid(images: Tensor, path: str | os.PathLike[str], columns: int) -> Path:
    """Write the :func:`grid_image` of ``images`` as a PNG file; return the path."""
    return save_picture(grid_image(images, columns), Path(path))


def save_animation(
    frames: Sequence[Image.Image], folder: Path, name: str, frame_ms: int
) -> list[Path]:
    """Write an animation that repeats forever, as a GIF and as a lossless WebP file.

    Args:
        frames: pictures of one size.
        folder: where the files are written; it must exist.
        name: file name without suffix.
        frame_ms: how long each frame is shown, in milliseconds.

    Returns:
        The paths of both files.
    """
    paths = [folder / f"{name}.gif", folder / f"{name}.webp"]
    for path in paths:
        frames[0].save(
            path,
            save_all=True,
            append_images=list(frames[1:]),
            duration=frame_ms,
            loop=0,
            lossless=True,
        )
    return paths


def save_picture(picture: Image.Image, target: Path) -> Path:
    """Write ``picture`` as a PNG file, atomically, and return ``target``."""
    with replacing(target) as temporary:
        picture.save(temporary, format="PNG")
    return target
