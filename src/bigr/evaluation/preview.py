"""Pictures of a sampler at work."""

from __future__ import annotations

import torch
from torch import Tensor

from bigr.evaluation.generate import decode
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.sampling.sampler import Progress

GREY = 0.5


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
