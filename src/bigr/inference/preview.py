"""Pictures of a sampler at work."""

from __future__ import annotations

import math

import torch
from PIL import Image
from torch import Tensor

from bigr.data.image_arrays import grid_image, to_uint8
from bigr.inference.generate import decode
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.sampling.sampler import Progress

GREY = 0.5
HEAT = (
    (0.267, 0.005, 0.329),
    (0.231, 0.322, 0.546),
    (0.129, 0.569, 0.549),
    (0.369, 0.789, 0.383),
    (0.993, 0.906, 0.144),
)
"""Five colours of Matplotlib's viridis, from dark to bright."""
MAP_SIDE = 320


@torch.inference_mode()
def preview(autoencoder: BinaryAutoencoder, progress: Progress) -> Tensor:
    """What is decided so far, (B, 3, H, W) in [0, 1]; the patches of masked tokens are grey.

    Undecided tokens are decoded as zeros, which their neighbours' pixels show a little.
    """
    images = decode(autoencoder, progress.codes, len(progress.codes)).cpu()
    size = images.shape[-1]
    side = autoencoder.config.grid_size
    is_masked = progress.is_masked.view(-1, 1, side, side).float().cpu()
    covered = torch.nn.functional.interpolate(is_masked, size=(size, size), mode="nearest")
    return torch.where(covered > 0, GREY, images)


class Film:
    """A callback for ``on_iteration`` that draws a frame each time: all images in one picture.

    Batches fill their places one after the other; enrichment's rounds take the same ones again.

    Args:
        autoencoder: decodes what is there.
        count: images.
        columns: to a row.
    """

    def __init__(self, autoencoder: BinaryAutoencoder, count: int, columns: int) -> None:
        self.autoencoder = autoencoder
        self.columns = columns
        self.frames: list[Image.Image] = []
        size = autoencoder.config.image_size
        self._images = torch.full((count, 3, size, size), GREY)
        self._places = range(0)

    def __call__(self, progress: Progress) -> None:
        """Draw a frame."""
        squares = preview(self.autoencoder, progress)
        if progress.iteration == 1:
            first = self._places.stop
            first = first if first + len(squares) <= len(self._images) else 0
            self._places = range(first, first + len(squares))
        self._images[self._places.start : self._places.stop] = squares
        self.frames.append(grid_image(self._images, self.columns))


def heatmap(values: Tensor, side: int = MAP_SIDE) -> Image.Image:
    """A map of one image's tokens, coloured from dark (0) to bright (1); grey where NaN.

    Args:
        values: (N,) in [0, 1], of a square grid.
        side: of the picture in pixels, at least; a multiple of the grid's.
    """
    grid_size = math.isqrt(values.numel())
    grid = values.detach().float().cpu().view(grid_size, grid_size)
    position = grid.nan_to_num(0.0).clamp(0, 1) * (len(HEAT) - 1)
    below = position.floor().long().clamp(max=len(HEAT) - 2)
    colors = torch.tensor(HEAT)
    picture = torch.lerp(colors[below], colors[below + 1], (position - below)[..., None])
    picture[grid.isnan()] = GREY
    scale = math.ceil(side / grid_size)
    pixels = to_uint8(picture).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    return Image.fromarray(pixels.numpy())
