"""Images to files and back."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

MIN_VISIBLE_SIDE = 64
LABEL_HEIGHT = 14


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [0, 1] to rounded uint8, values outside clamped."""
    return (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1]; floats stay."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def grid_image(images: Tensor, columns: int) -> Image.Image:
    """A picture of ``images`` (n, 3, H, W) in [0, 1], ``columns`` to a row.

    Small images are enlarged without smoothing until they can be seen.
    """
    scale = max(1, MIN_VISIBLE_SIDE // images.shape[-1])
    visible = to_uint8(images).cpu()
    visible = visible.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    grid = make_grid(visible, nrow=columns, padding=2, pad_value=255)
    return Image.fromarray(grid.permute(1, 2, 0).numpy())


def labelled_rows(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """A picture with a row of pictures of one size per entry, its label before it.

    Small pictures are enlarged without smoothing until they can be seen.
    """
    font = ImageFont.load_default(size=LABEL_HEIGHT)
    width, height = rows[0][1][0].size
    scale = max(1, MIN_VISIBLE_SIDE // width)
    width, height = width * scale, height * scale
    margin = 2 * LABEL_HEIGHT + math.ceil(max(font.getlength(label) for label, _ in rows))
    columns = max(len(pictures) for _, pictures in rows)
    gap = 2
    size = (margin + columns * (width + gap), len(rows) * (height + gap) + gap)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for number, (label, pictures) in enumerate(rows):
        top = gap + number * (height + gap)
        draw.text((LABEL_HEIGHT, top + height // 2), label, "black", font, anchor="lm")
        for column, picture in enumerate(pictures):
            visible = picture.resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(visible, (margin + column * (width + gap), top))
    return canvas


def load_image(path: str | os.PathLike[str]) -> Tensor:
    """A picture file as it is: (3, H, W) in [0, 1]."""
    return to_tensor(load_picture(path))


def load_picture(path: str | os.PathLike[str]) -> Image.Image:
    """A picture file, read whole."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def to_tensor(picture: Image.Image) -> Tensor:
    """A PIL image as (3, H, W) in [0, 1]."""
    return to_float(torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1))


def save_image(image: Tensor, path: str | os.PathLike[str]) -> Path:
    """Write one image (3, H, W) in [0, 1] as PNG, pixel for pixel."""
    pixels = to_uint8(image).cpu().permute(1, 2, 0).contiguous()
    return save_picture(Image.fromarray(pixels.numpy()), Path(path))


def save_grid(images: Tensor, path: str | os.PathLike[str], columns: int) -> Path:
    """Write :func:`grid_image` as PNG, by :func:`save_picture`."""
    return save_picture(grid_image(images, columns), Path(path))


def save_animation(
    frames: Sequence[Image.Image], folder: Path, name: str, frame_ms: int
) -> list[Path]:
    """Write ``frames`` as an endless GIF, and as a WebP without loss."""
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
    """Write a PNG, folders included; a half-written file is never seen."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    picture.save(part, format="PNG")
    part.replace(target)
    return target
