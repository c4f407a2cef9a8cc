"""Conversion between the layouts of codes: tokens for the generator, grids for the B-AE.

Shapes: B images, N = h * w tokens, K bits.
"""

from __future__ import annotations

from torch import Tensor


def grid_to_tokens(codes: Tensor) -> Tensor:
    """Convert a grid (B, K, h, w) to tokens (B, N, K), row by row."""
    return codes.flatten(2).transpose(1, 2)


def tokens_to_grid(codes: Tensor) -> Tensor:
    """Convert tokens (B, N, K), where N is a square number, to a grid (B, K, h, h)."""
    side = round(codes.shape[1] ** 0.5)
    return codes.transpose(1, 2).unflatten(2, (side, side))
