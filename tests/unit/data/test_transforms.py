"""ADM's centre crop, against the published arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bigr.data.decoding import BrokenImageError, decode
from bigr.data.transforms import center_crop, center_crop_pil, check_views, count_views, make_views
from tests.image_files import odd_images, photograph


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


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


SHAPES = [(500, 375), (375, 400), (1300, 901), (2100, 1501), (60, 400), (257, 256), (256, 256)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 256, 300])
def test_centre_crop(shape: tuple[int, int], size: int) -> None:
    image = photograph(*shape)
    expected = adm_crop(np.array(image), size)
    assert np.array_equal(np.array(center_crop_pil(image, size)), expected)
    exact = center_crop(tensor(image), size, "pil")
    assert np.array_equal(exact.permute(1, 2, 0).numpy(), expected)
    fast = center_crop(tensor(image), size).permute(1, 2, 0).numpy().astype(float)
    assert fast.shape == (size, size, 3)
    assert np.abs(fast - expected).mean() <= 0.5
    assert np.abs(fast - expected).max() <= 4


@pytest.mark.parametrize("kind", odd_images())
def test_odd_images_through_both_ways(kind: str) -> None:
    data = odd_images()[kind]
    fast = center_crop(decode(data), 128)
    exact = center_crop(decode(data, decoder="pil"), 128, "pil")
    assert fast.shape == exact.shape == (3, 128, 128)
    assert (fast.float() - exact.float()).abs().mean() <= 0.5


def test_centre_crop_keeps_the_centre() -> None:
    """A white disc in the middle of a wide black picture stays in the middle."""
    rows, columns = np.mgrid[:400, :1000]
    disc = ((rows - 199.5) ** 2 + (columns - 499.5) ** 2 < 80**2).astype(np.uint8) * 255
    image = torch.from_numpy(disc).expand(3, -1, -1)
    cropped = center_crop(image, 64)[0].numpy().astype(float)
    centre = (cropped.sum(0) @ np.arange(64), cropped.sum(1) @ np.arange(64))
    assert np.allclose(np.array(centre) / cropped.sum(), 31.5, atol=0.1)


def test_a_line_of_pixels_is_no_picture() -> None:
    with pytest.raises(BrokenImageError, match="9000x2 pixels"):
        center_crop(torch.zeros(3, 2, 9000, dtype=torch.uint8), 256)


def test_views() -> None:
    image = tensor(photograph(300, 200))
    views = check_views(["center", "mirror", "ten_crop"])
    pictures = make_views(image, 64, views)
    assert count_views(views) == len(pictures) == 12
    center = center_crop(image, 64)
    assert torch.equal(pictures[0], center)
    assert torch.equal(pictures[1], center.flip(2))
    wide = center_crop(image, 70)  # 1.1 times as wide
    corners = [wide[:, :64, :64], wide[:, :64, 6:], wide[:, 6:, :64], wide[:, 6:, 6:]]
    expected = torch.stack([*corners, wide[:, 3:67, 3:67]])
    assert torch.equal(pictures[2:7], expected)
    mirrored = wide.flip(2)
    assert torch.equal(pictures[7], mirrored[:, :64, :64])


@pytest.mark.parametrize("names", [[], ["center", "center"], ["left"]])
def test_wrong_views(names: list[str]) -> None:
    with pytest.raises(ValueError, match="views="):
        check_views(names)
