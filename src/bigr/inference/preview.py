"""Frames and maps that show how a sampler unmasks an image."""

from __future__ import annotations

import math

import torch
from PIL import Image
from torch import Tensor

from bigr.data.image_arrays import grid_image, to_pil, to_uint8
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
    """Return the images decoded so far, (B, 3, H, W) in [0, 1], with masked tokens in grey.

    Masked tokens are decoded as zeros, which slightly affects the pixels next to them.
    """
    images = decode(autoencoder, progress.codes, len(progress.codes)).cpu()
    size = images.shape[-1]
    side = autoencoder.config.grid_size
    is_masked = progress.is_masked.view(-1, 1, side, side).float().cpu()
    covered = torch.nn.functional.interpolate(is_masked, size=(size, size), mode="nearest")
    return torch.where(covered > 0, GREY, images)


class Film:
    """A callback for ``on_iteration`` that draws a frame per iteration: a grid of all images.

    Each batch takes the next places of the grid. After the last place, the first one is next, so
    that the rounds of enrichment update the same places.

    Args:
        autoencoder: decodes the codes.
        count: number of places; None means the size of the first batch.
        columns: number of images per row.
    """

    def __init__(self, autoencoder: BinaryAutoencoder, count: int | None, columns: int) -> None:
        self.autoencoder = autoencoder
        self.columns = columns
        self.frames: list[Image.Image] = []
        self.is_over = False
        """Set this to ignore all further iterations."""
        self._images = None if count is None else self._grey(count)
        self._places = range(0)
        self._num_finished = 0

    @property
    def count(self) -> int:
        """The number of places; 0 before the first batch if it is not known."""
        return 0 if self._images is None else len(self._images)

    @property
    def finished(self) -> list[Image.Image]:
        """The images all of whose tokens have been decided, in order."""
        return [] if self._images is None else [*map(to_pil, self._images[: self._num_finished])]

    def _grey(self, count: int) -> Tensor:
        size = self.autoencoder.config.image_size
        return torch.full((count, 3, size, size), GREY)

    def __call__(self, progress: Progress) -> None:
        """Draw the frame of one iteration."""
        if self.is_over:
            return
        images = preview(self.autoencoder, progress)
        if self._images is None:
            self._images = self._grey(len(images))
        if progress.iteration == 1:
            first = self._places.stop
            first = first if first + len(images) <= len(self._images) else 0
            self._places = range(first, first + len(images))
        self._images[self._places.start : self._places.stop] = images
        if progress.iteration == progress.num_iterations:
            self._num_finished = self._places.stop
        self.frames.append(grid_image(self._images, self.columns))


def heatmap(values: Tensor, side: int = MAP_SIDE) -> Image.Image:
    """Return a map of the tokens of one image, from dark (0) to bright (1), grey where NaN.

    Args:
        values: (N,) in [0, 1], of a square grid.
        side: side of the picture in pixels, rounded up to a multiple of the grid's side.
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
