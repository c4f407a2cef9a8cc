"""What the applications hand to the sampler: which tokens are masked, and under which class.

Shapes: B images, (H, W) pixels, N tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def token_mask(pixel_mask: Tensor, grid_size: int) -> Tensor:
    """Pixels to repaint, as tokens to sample: nearest neighbour, as the released code does.

    Args:
        pixel_mask: (B, H, W) bool, True = repaint. Outpainting hands in the inverse.
        grid_size: side of the token grid.

    Returns:
        (B, N) bool, True = masked.

    Raises:
        ValueError: if an image's mask touches no token.
    """
    small = F.interpolate(pixel_mask[:, None].float(), size=(grid_size, grid_size), mode="nearest")
    is_masked = small.flatten(1) > 0.5
    untouched = (~is_masked.any(dim=1)).nonzero().flatten().tolist()
    if untouched:
        raise ValueError(
            f"the mask of image {untouched[0]} touches no token of the {grid_size}x{grid_size} "
            "grid: draw it larger."
        )
    return is_masked


def null_classes(batch_size: int, null_class: int) -> Tensor:
    """The null class for every image, (B,) int64. Guidance does nothing then: use scale 1."""
    return torch.full((batch_size,), null_class, dtype=torch.int64)
