"""The two layouts of codes: tokens (B, N, K) for the generator, grids (B, K, h, w) for the B-AE."""

from __future__ import annotations

from torch import Tensor


def grid_to_tokens(codes: Tensor) -> Tensor:
    """(B, K, h, w) to (B, N, K), row by row."""
    return codes.flatten(2).transpose(1, 2)


def tokens_to_grid(codes: Tensor) -> Tensor:
    """(B, N, K) with N a square number to (B, K, h, h)."""
    side = round(codes.shape[1] ** 0.5)
    return codes.transpose(1, 2).unflatten(2, (side, side))
