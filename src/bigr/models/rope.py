"""Rotary position embedding (RoPE, arXiv 2104.09864) for tokens on a square grid.

Shapes: B batch, L positions (class token and N image tokens), H heads, C width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rotary_table(grid_size: int, head_dim: int, base: float) -> Tensor:
    """Compute the cosines and sines of the 2-D rotary embedding.

    The first half of the C/2 pairs of a head rotates with the row, the second half with the column,
    at the frequencies base^(-2i / (C/2)). Position 0, the class token, has cos = sin = 0, so its
    query and key become zero; the released weights were trained this way.

    Returns:
        (2, 1 + grid_size^2, C/2) float32: cosines, then sines.
    """
    half = head_dim // 2
    frequencies = base ** (-torch.arange(0, half, 2, dtype=torch.float32, device="cpu") / half)
    side = torch.arange(grid_size, dtype=torch.float32, device="cpu")
    angles = torch.outer(side, frequencies)
    rows = angles[:, None, :].expand(grid_size, grid_size, -1)
    columns = angles[None, :, :].expand(grid_size, grid_size, -1)
    grid = torch.cat([rows, columns], dim=-1).reshape(grid_size**2, half)
    table = torch.stack([grid.cos(), grid.sin()])
    return F.pad(table, (0, 0, 1, 0))


def apply_rotary(x: Tensor, rotary: Tensor) -> Tensor:
    """Rotate the interleaved pairs (x_0, x_1), (x_2, x_3), ... of each head, in float32.

    Args:
        x: (B, L, H, C) queries or keys.
        rotary: (2, L, C/2), or (2, B, L, C/2) if each image has positions of its own.

    Returns:
        (B, L, H, C) in the dtype of ``x``.
    """
    cos, sin = rotary.unsqueeze(-2)
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler runs complex numbers in slow kernels
        real, imaginary = pairs.unbind(-1)
        rotated = torch.stack([real * cos - imaginary * sin, imaginary * cos + real * sin], dim=-1)
    else:  # one product instead of four
        product = torch.view_as_complex(pairs.contiguous()) * torch.complex(cos, sin)
        rotated = torch.view_as_real(product)
    return rotated.flatten(-2).to(x.dtype)
