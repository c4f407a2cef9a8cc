"""Fréchet Inception distance (arXiv 1706.08500) with the TensorFlow Inception, by torchmetrics."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from bigr.checkpoints.cached import CachedFile, find_cached
from bigr.data.image_arrays import to_uint8

INCEPTION = CachedFile(
    name="weights-inception-2015-12-05-6726825d.pth",
    hash="6726825d",
    folder="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0",
    key="inception_file",
    purpose="FID",
)
NUM_FEATURES = 2048


def load_fid(given: str | None = None) -> FrechetInceptionDistance:
    """An empty metric.

    Args:
        given: Inception's weights; None is torch's hub cache.

    Raises:
        CachedFileError: if the weights are missing or wrong.
    """
    path = find_cached(INCEPTION, given)
    # The library's default, antialias=True, isn't the TensorFlow resizing of published figures.
    return FrechetInceptionDistance(
        NUM_FEATURES, antialias=False, feature_extractor_weights_path=str(path)
    )


def update_fid(fid: FrechetInceptionDistance, images: Tensor, *, real: bool) -> None:
    """Add images (B, 3, H, W) in [0, 1], rounded to bytes as published figures are; float32."""
    with torch.autocast(images.device.type, enabled=False):
        fid.update(to_uint8(images), real=real)
