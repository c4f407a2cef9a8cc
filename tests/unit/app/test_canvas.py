"""Painted layers: as masks of pixels, as rectangles of tokens, and under the token grid."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bigr.app.canvas import (
    canvas_size,
    draw_canvas,
    layer_of,
    pad,
    paint_rectangle,
    painted_mask,
    unpad,
)
from tests.pictures import noise


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (640, 480), (30, 50), (2000, 1000)])
def test_a_rectangle_covers_its_tokens_alone(size: tuple[int, int]) -> None:
    """Of 5x5 tokens, counted pixel by pixel in a mask of the picture's size."""
    side, grid_size = min(size), 5
    for box in ((0, 0, 1, 1), (1, 2, 3, 2), (4, 4, 1, 1), (0, 0, 5, 5)):
        mask = painted_mask(paint_rectangle(None, size, box, grid_size), size)
        assert mask is not None
        assert mask.size == size
        touched = set()
        for y, x in np.argwhere(np.array(mask)):
            column = (x + 0.5 - (size[0] - side) / 2) * grid_size / side
            row = (y + 0.5 - (size[1] - side) / 2) * grid_size / side
            touched.add((int(np.floor(column)), int(np.floor(row))))
        left, top, width, height = box
        assert touched == {
            (left + x, top + y) for x in range(width) for y in range(height)
        }  # fmt: skip


def test_a_rectangle_is_added_to_what_was_painted() -> None:
    first = paint_rectangle(None, (16, 16), (0, 0, 1, 4), 4)
    both = painted_mask(paint_rectangle(first, (16, 16), (3, 0, 1, 4), 4), (16, 16))
    expected = np.zeros((16, 16), bool)
    expected[:, :4] = expected[:, 12:] = True
    assert np.array_equal(np.array(both) > 0, expected)


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (-1, 0, 2, 1), (3, 0, 2, 1), (0, 4, 1, 1)])
def test_rectangles_outside_of_the_grid(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="The rectangle must be within the 4x4 tokens"):
        paint_rectangle(None, (16, 16), box, 4)


@pytest.mark.parametrize("size", [(16, 16), (50, 30), (1000, 700)])
def test_masks_become_layers_and_masks_again(size: tuple[int, int]) -> None:
    """A layer holds any mask of a small picture, and all masks that were painted on large ones."""
    coarse = canvas_size(size) if max(size) > 640 else size
    bits = np.random.default_rng(0).integers(0, 2, coarse[::-1], np.uint8) * 255
    mask = Image.fromarray(bits).resize(size, Image.Resampling.NEAREST)
    layer = layer_of(mask)
    assert layer.size == canvas_size(size)
    assert np.array_equal(np.array(painted_mask(layer, size)), np.array(mask))


@pytest.mark.parametrize("size", [(16, 16), (50, 30), (700, 1000)])
def test_padding_is_removed_again(size: tuple[int, int]) -> None:
    """Also if the editor returns the square in another scale; a layer without padding stays."""
    layer = paint_rectangle(None, size, (1, 0, 2, 3), 4)
    square = pad(layer)
    assert square.size == (640, 640)
    assert unpad(square, size).tobytes() == layer.tobytes()
    assert unpad(layer, size).tobytes() == layer.tobytes()
    large = unpad(square.resize((1280, 1280), Image.Resampling.NEAREST), size)
    expected = painted_mask(layer, size)
    assert np.array_equal(np.array(painted_mask(large, size)), np.array(expected))


def test_nothing_painted() -> None:
    assert painted_mask(None, (8, 8)) is None
    assert painted_mask(Image.new("RGBA", (640, 640)), (8, 8)) is None


def test_the_grid_is_drawn_over_the_centre_square() -> None:
    picture = noise(50, 30)  # width 50, so that the canvas has 640 x 384
    plain = np.array(draw_canvas(picture)).astype(int)
    drawn = np.array(draw_canvas(picture, 4)).astype(int)
    assert plain.shape == drawn.shape == (384, 640, 3)
    is_changed = (plain != drawn).any(axis=-1)
    columns = np.flatnonzero(is_changed.mean(axis=0) > 0.9)
    assert columns.tolist() == [128 + round(i * 383 / 4) for i in range(5)]
    assert not is_changed[:, :128].any()
    assert not is_changed[:, 512:].any()


def test_transparent_parts_stay_so() -> None:
    picture = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert draw_canvas(picture, 4).getchannel("A").getextrema() == (0, 0)
