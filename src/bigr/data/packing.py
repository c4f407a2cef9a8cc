"""Packing of codes into bytes, eight bits each, and unpacking on any device.

Shapes: B images, N tokens, K bits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BITS = 8


def packed_size(seq_len: int, code_dim: int) -> int:
    """Return the number of bytes per image, for example 768 for 256 tokens of 24 bits.

    Raises:
        ValueError: if the bits do not fill whole bytes.
    """
    if seq_len * code_dim % BITS:
        raise ValueError(f"{seq_len} tokens of {code_dim} bits do not fill whole bytes.")
    return seq_len * code_dim // BITS


def pack_codes(codes: Tensor) -> Tensor:
    """Pack the bits of one token after another, the first bit highest, as ``numpy.packbits`` does.

    Args:
        codes: (B, N, K) of 0 and 1, any dtype.

    Returns:
        (B, N*K/8) uint8.
    """
    packed_size(*codes.shape[1:])
    bits = codes.to(torch.uint8).reshape(codes.shape[0], -1, BITS)
    return (bits << _shifts(codes.device)).sum(-1, dtype=torch.uint8)


def unpack_codes(packed: Tensor, code_dim: int) -> Tensor:
    """Invert :func:`pack_codes`.

    Args:
        packed: (B, N*K/8) uint8.
        code_dim: K.

    Returns:
        (B, N, K) float32 of 0 and 1.
    """
    every_byte = torch.arange(2**BITS, dtype=torch.int32, device=packed.device)
    table = ((every_byte[:, None] >> _shifts(packed.device)) & 1).float()
    # On a CPU, a table of all bytes is three times as fast as shifting each byte.
    return F.embedding(packed.int(), table).view(packed.shape[0], -1, code_dim)


def _shifts(device: torch.device) -> Tensor:
    return torch.arange(BITS - 1, -1, -1, dtype=torch.uint8, device=device)
