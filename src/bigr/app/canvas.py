"""The canvas on which masks are painted: the picture, the token grid, and the painted layer.

A layer is an RGBA image of the size of the canvas, which is opaque where it was painted.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from bigr.app.steps import CANVAS_SIDE

PAINT = (255, 61, 113, 255)
"""Colour of the brush."""
GRID_LINE = (128, 128, 128, 110)


def canvas_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the canvas for a picture of the given size (width, height)."""
    scale = CANVAS_SIDE / max(size)
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def draw_canvas(picture: Image.Image, grid_size: int = 0) -> Image.Image:
    """Return a picture in the size of the canvas.

    Args:
        picture: of any size.
        grid_size: draw the borders of this many tokens per side over the centre square, which is
            what the model sees; 0 draws none.
    """
    is_small = max(picture.size) < CANVAS_SIDE // 4
    method = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
    canvas = picture.resize(canvas_size(picture.size), method)
    if grid_size == 0:
        return canvas
    lines = Image.new("RGBA", canvas.size)
    draw = ImageDraw.Draw(lines)
    left, top, side = _centre_square(canvas.size)
    for index in range(grid_size + 1):
        at = round(index * (side - 1) / grid_size)
        draw.line((left + at, top, left + at, top + side - 1), GRID_LINE)
        draw.line((left, top + at, left + side - 1, top + at), GRID_LINE)
    mixed = Image.alpha_composite(canvas.convert("RGBA"), lines)
    if canvas.mode == "RGBA":  # transparent parts stay transparent
        mixed.putalpha(canvas.getchannel("A"))
    return mixed.convert(canvas.mode)


def paint_rectangle(
    layer: Image.Image | None, size: tuple[int, int], box: tuple[int, int, int, int], grid_size: int
) -> Image.Image:
    """Return a painted layer with a rectangle of tokens added to it.

    Args:
        layer: what was painted before, or None.
        size: of the picture, (width, height).
        box: left, top, width and height in tokens of the centre square.
        grid_size: tokens per side.

    Raises:
        ValueError: if the rectangle is empty or leaves the grid.
    """
    x, y, width, height = box
    if min(x, y) < 0 or min(width, height) < 1 or max(x + width, y + height) > grid_size:
        raise ValueError(
            f"The rectangle must be within the {grid_size}x{grid_size} tokens: left + width and "
            f"top + height can be at most {grid_size}."
        )
    painted = Image.new("RGBA", canvas_size(size))
    if layer is not None:
        painted.paste(layer.resize(painted.size, Image.Resampling.NEAREST))
    left, top, side = _centre_square(painted.size)
    token = side / grid_size
    # Rounded inwards, because paint that touches a token repaints all of it.
    first_x, first_y = math.ceil(left + x * token), math.ceil(top + y * token)
    end_x, end_y = math.floor(left + (x + width) * token), math.floor(top + (y + height) * token)
    painted.paste(PAINT, (first_x, first_y, max(end_x, first_x + 1), max(end_y, first_y + 1)))
    return painted


def painted_mask(layer: Image.Image | None, size: tuple[int, int]) -> Image.Image | None:
    """Return the opaque part of a layer as a mask of the given size; None if there is none."""
    if layer is None:
        return None
    alpha = np.asarray(layer.convert("RGBA").getchannel("A"))
    if not (alpha > 0).any():
        return None
    full = Image.fromarray((alpha > 0).astype(np.uint8) * 255)
    return full.resize(size, Image.Resampling.NEAREST)


def layer_of(mask: Image.Image) -> Image.Image:
    """Return the painted layer that stands for a mask, the opposite of :func:`painted_mask`."""
    white = mask.convert("L").resize(canvas_size(mask.size), Image.Resampling.NEAREST)
    layer = Image.new("RGBA", white.size)
    layer.paste(PAINT, mask=white.point([0] * 128 + [255] * 128))
    return layer


def pad(canvas: Image.Image) -> Image.Image:
    """Return a canvas or a layer in the middle of a transparent square.

    Gradio's editor shows a layer at the wrong place unless it is as large as its whole canvas.
    """
    square = Image.new("RGBA", (CANVAS_SIDE, CANVAS_SIDE))
    square.paste(canvas, tuple((CANVAS_SIDE - side) // 2 for side in canvas.size))  # type: ignore[arg-type]
    return square


def unpad(layer: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the part of a layer of a padded canvas that covers a picture of the given size."""
    if layer.width != layer.height:  # it has not been padded
        return layer
    scale = layer.width / CANVAS_SIDE
    width, height = (round(side * scale) for side in canvas_size(size))
    left, top = (layer.width - width) // 2, (layer.height - height) // 2
    return layer.crop((left, top, left + width, top + height))


def _centre_square(size: tuple[int, int]) -> tuple[float, float, int]:
    """Return left, top and side of the largest square in the middle."""
    side = min(size)
    return (size[0] - side) / 2, (size[1] - side) / 2, side
