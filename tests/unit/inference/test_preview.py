"""Pictures of a sampler at work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bigr.data.image_arrays import grid_image, to_uint8
from bigr.inference.generate import decode
from bigr.inference.preview import GREY, HEAT, Film, heatmap, preview
from bigr.sampling.sampler import Progress
from tests.models import tiny_autoencoder


def state(iteration: int, codes: torch.Tensor, is_masked: torch.Tensor) -> Progress:
    return Progress(iteration, 4, codes, is_masked, torch.zeros(is_masked.shape))


def test_masked_patches_are_grey() -> None:
    autoencoder = tiny_autoencoder()
    codes = torch.randint(2, (2, 16, 6), generator=torch.Generator().manual_seed(0)).float()
    is_masked = torch.zeros(2, 16, dtype=torch.bool)
    is_masked[0, 6] = True  # row 1, column 2: pixels 2-3 and 4-5
    images = preview(autoencoder, state(1, codes, is_masked))
    expected = decode(autoencoder, codes, 2)
    with torch.inference_mode():
        expected[0, :, 2:4, 4:6] = 0.5
    assert torch.equal(images, expected)


def test_film_of_batches_of_different_sizes() -> None:
    """All images in each frame, those of later batches grey; rounds take the same places."""
    autoencoder = tiny_autoencoder()
    codes = torch.randint(2, (3, 16, 6), generator=torch.Generator().manual_seed(0)).float()
    nothing = torch.zeros(3, 16, dtype=torch.bool)
    film = Film(autoencoder, 3, columns=2)
    film(state(1, codes[:2], nothing[:2]))
    film(state(1, codes[2:], nothing[2:]))
    film(state(1, codes.flip(0), nothing))
    images = decode(autoencoder, codes, 3)
    first = torch.cat([images[:2], torch.full_like(images[2:], GREY)])
    for frame, expected in zip(film.frames, (first, images, images.flip(0)), strict=True):
        assert np.array_equal(np.array(frame), np.array(grid_image(expected, 2)))


def test_heatmap_is_matplotlibs() -> None:
    """Viridis to a few percent, row by row; grey where there is nothing."""
    matplotlib = pytest.importorskip("matplotlib")
    values = torch.linspace(0, 1, 16)
    values[5] = float("nan")
    pixels = np.array(heatmap(values, 8))  # two pixels a token
    assert pixels.shape == (8, 8, 3)
    viridis = matplotlib.colormaps["viridis"]
    for token, value in enumerate(values.tolist()):
        row, column = divmod(token, 4)
        expected = np.array([GREY] * 3 if token == 5 else viridis(value)[:3])
        block = pixels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert np.abs(block / 255 - expected).max() < 0.12  # of five colours
    ends = to_uint8(torch.tensor([HEAT[0], HEAT[-1]])).numpy()
    assert np.array_equal(pixels[[0, -1], [0, -1]], ends)
