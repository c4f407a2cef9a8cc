"""Pixels in, pixels out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from bigr.data.digits import load_digits, to_native
from bigr.data.image_folder import ClassFolders, center_crop
from bigr.data.images import grid_image, save_grid, save_image, to_uint8


def test_digits_are_the_data_sets_own() -> None:
    from sklearn.datasets import load_digits as load_bunch

    bunch = load_bunch()
    train, test = load_digits("train", 16), load_digits("test", 16)
    assert (len(train.labels), len(test.labels)) == (1437, 360)
    assert train.images.shape == (1437, 3, 16, 16)
    assert train.images.min() == 0
    assert train.images.max() == 1
    ours = torch.cat([to_native(load_digits(split, 8).images) for split in ("train", "test")])
    rows = {tuple(row) for row in ours.round().long().tolist()}
    assert rows == {tuple(row) for row in bunch.data.astype(int).tolist()}
    assert torch.bincount(test.labels).min() >= 34


def test_digits_split_is_fixed() -> None:
    assert (
        load_digits("test", 16).labels[:12].tolist() == load_digits("test", 8).labels[:12].tolist()
    )
    again = load_digits("train", 16)
    assert torch.equal(again.images, load_digits("train", 16).images)


def test_digits_of_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8, got 20"):
        load_digits("train", 20)


def adm_crop(array: np.ndarray, size: int) -> np.ndarray:
    """The published centre crop, on arrays: box means, bicubic, indices."""
    image = Image.fromarray(array)
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(side // 2 for side in image.size), resample=Image.BOX)
    scale = size / min(*image.size)
    image = image.resize(tuple(round(side * scale) for side in image.size), resample=Image.BICUBIC)
    pixels = np.array(image)
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


@pytest.mark.parametrize("size", [64, 100, 256, 500])
def test_centre_crop_of_a_photograph(size: int) -> None:
    photograph = load_sample_image("china.jpg")
    cropped = np.array(center_crop(Image.fromarray(photograph), size))
    assert cropped.shape == (size, size, 3)
    assert np.array_equal(cropped, adm_crop(photograph, size))


def test_centre_crop_keeps_the_centre() -> None:
    """A white disc in the middle of a wide black picture stays in the middle."""
    rows, columns = np.mgrid[:400, :1000]
    disc = ((rows - 199.5) ** 2 + (columns - 499.5) ** 2 < 80**2).astype(np.uint8) * 255
    cropped = np.array(center_crop(Image.fromarray(disc), 64)).astype(float)
    centre = (cropped.sum(0) @ np.arange(64), cropped.sum(1) @ np.arange(64))
    assert np.allclose(np.array(centre) / cropped.sum(), 31.5, atol=0.1)


def test_class_folders(tmp_path: Path) -> None:
    for index, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (50, 40), (index * 200, 10, 30)).save(tmp_path / name / "1.png")
        Image.new("L", (40, 70), index * 200).save(tmp_path / name / "2.jpg")
    folder = ClassFolders(tmp_path, 32)
    assert folder.classes == ["cat", "dog"]
    image, label = folder[2]
    assert (image.shape, image.dtype, label) == ((3, 32, 32), torch.uint8, 1)
    assert image[:, 5, 5].tolist() == [200, 10, 30]
    with pytest.raises(ValueError, match=r"No folder .*nowhere"):
        ClassFolders(tmp_path / "nowhere", 32)
    (tmp_path / "hollow").mkdir()
    with pytest.raises(ValueError, match="has no class folders with images"):
        ClassFolders(tmp_path / "hollow", 32)


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


def test_single_image_is_saved_pixel_for_pixel(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (3, 5, 7)).float() / 255
    path = save_image(image, tmp_path / "image.png")
    assert np.array_equal(np.array(Image.open(path)).transpose(2, 0, 1), to_uint8(image).numpy())
