"""Conversions between tensors, PIL images and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import make_grid

from bigr.data.image_arrays import grid_image, save_grid, save_picture, to_pil, to_tensor, to_uint8


def test_rounding_and_clamping() -> None:
    values = torch.tensor([-0.2, 0.0, 0.5 / 255, 0.499, 1.0, 1.7])
    assert to_uint8(values).tolist() == [0, 0, 0, 127, 255, 255]


def test_grid_is_row_by_row(tmp_path: Path) -> None:
    """Six one-coloured 64-pixel images in rows of three, 2 pixels of white around each."""
    images = torch.stack([torch.full((3, 64, 64), value / 10) for value in range(6)])
    grid = np.array(grid_image(images, 3))
    assert grid.shape == (2 * 66 + 2, 3 * 66 + 2, 3)
    assert grid[2 + 30, 2 + 66 * 2 + 30].tolist() == [51, 51, 51]
    assert grid[2 + 66 + 30, 2 + 66 + 30].tolist() == [102, 102, 102]
    assert grid[0, 0].tolist() == [255, 255, 255]
    small = np.array(grid_image(images[:, :, :8, :8], 3))
    assert small.shape == grid.shape
    path = save_grid(images, tmp_path / "deep" / "grid.png", 3)
    assert np.array_equal(np.array(Image.open(path)), grid)


@pytest.mark.parametrize(("count", "columns"), [(1, 4), (3, 4), (4, 4), (7, 3), (5, 1)])
def test_grid_is_that_of_torchvision(count: int, columns: int) -> None:
    """The same pixels as torchvision's function, which is slow to import."""
    images = torch.rand(count, 3, 65, 70)
    expected = make_grid(to_uint8(images), nrow=columns, padding=2, pad_value=255)
    found = np.array(grid_image(images, columns)).transpose(2, 0, 1)
    assert np.array_equal(found, expected.numpy())


def test_single_image_is_saved_pixel_for_pixel(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (3, 5, 7)).float() / 255
    path = save_picture(to_pil(image), tmp_path / "image.png")
    assert np.array_equal(np.array(Image.open(path)).transpose(2, 0, 1), to_uint8(image).numpy())


def test_pil_round_trip_is_exact() -> None:
    """Every uint8 value, as uint8 and as floats, with height and width told apart."""
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 8, 32).repeat(3, 1, 1)
    pixels[1] += 7
    expected = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    for image in (pixels, pixels.float() / 255):
        assert to_pil(image).size == (32, 8)
        assert to_pil(image).tobytes() == expected.tobytes()
    assert torch.equal(to_tensor(expected), pixels.float() / 255)


def test_masks_become_black_and_white() -> None:
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[1, 2:] = True
    picture = to_pil(mask)
    assert (picture.mode, picture.size) == ("L", (6, 4))
    assert np.array_equal(np.array(picture), mask.numpy() * 255)
