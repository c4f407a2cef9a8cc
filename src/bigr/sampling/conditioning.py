"""What the applications hand to the sampler: which tokens are masked, and under which class.

Shapes: B images, (H, W) pixels, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from bigr.models.bigr import BiGR
from bigr.sampling.sampler_config import SamplerConfig

MaskRule = Literal["any", "nearest"]

INPAINTING = SamplerConfig.preset("inpaint")
"""The paper's settings for inpainting, outpainting and editing (Appendix)."""
INTERPOLATION = SamplerConfig.preset("paper_l")
ENRICHMENT = SamplerConfig.preset("enrich")
INTERPOLATION_RATIOS = (0.0, 0.1, 0.2, *(0.3 + 0.02 * i for i in range(21)), 0.8, 0.9, 1.0)
"""The paper's 27 shares of the second class, densest where the picture changes."""
CELL = 4
"""Tokens of a 2x2 cell, which enrichment resamples one after the other."""


def token_mask(pixel_mask: Tensor, grid_size: int, rule: MaskRule = "nearest") -> Tensor:
    """Pixels to repaint, as tokens to sample.

    Args:
        pixel_mask: (B, H, W) bool, True = repaint. Outpainting hands in the inverse.
        grid_size: side of the token grid.
        rule: ``nearest`` looks at the first pixel of a token's patch, as the released code does;
            ``any`` masks every token of which a pixel is to be repainted, so that nothing of what
            was painted over is left.

    Returns:
        (B, N) bool, True = masked.

    Raises:
        ValueError: if an image's mask touches no token, or for another rule.
    """
    if rule not in get_args(MaskRule):
        raise ValueError(f"mask_rule={rule}: it can be any or nearest.")
    floats, size = pixel_mask[:, None].float(), (grid_size, grid_size)
    if rule == "any":
        small = F.adaptive_max_pool2d(floats, size)
    else:
        small = F.interpolate(floats, size=size, mode="nearest")
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


def class_mixtures(model: BiGR, first: int, second: int, ratios: Sequence[float]) -> Tensor:
    """Class embeddings (1 - r) e_first + r e_second, (len(ratios), D)."""
    ids = torch.tensor([first, second], device=model.device)
    start, end = model.transformer.embed_classes(ids).float()
    shares = torch.tensor(ratios, device=model.device, dtype=torch.float32)[:, None]
    return torch.lerp(start, end, shares)


def cell_groups(grid_size: int, generator: torch.Generator) -> Tensor:
    """Enrichment's four groups: of every 2x2 cell one token each, in an order drawn per cell.

    Returns:
        (4, N) bool; every token is in exactly one group.

    Raises:
        ValueError: for an odd ``grid_size``.
    """
    if grid_size % 2:
        raise ValueError(f"enrichment needs an even grid of tokens, not {grid_size}x{grid_size}.")
    cells = grid_size // 2
    order = torch.rand(cells, cells, CELL, generator=generator).argsort(dim=-1)
    # Position (row, column) of cell (i, j) is number 2 row + column of its order.
    grid = order.view(cells, cells, 2, 2).permute(0, 2, 1, 3).reshape(-1)
    return grid[None] == torch.arange(CELL)[:, None]
