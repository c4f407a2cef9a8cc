"""Building blocks of the masked transformer.

Shapes: B batch, L positions (class token + N image tokens), D width, H heads, C head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.models.key_value_memory import LayerMemory


class RMSNorm(nn.Module):
    """x / rms(x) * weight, with the statistics in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps).to(x.dtype)
        return normed * self.weight


class FeedForward(nn.Module):
    """SwiGLU: down(SiLU(gate(x)) * up(x)), without biases."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden_dim, bias=False)
        self.up = nn.Linear(dim, hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return self.dropout(hidden)


def rotary_table(grid_size: int, head_dim: int, base: float) -> Tensor:
    """Cosines and sines of the 2-D rotary embedding, interleaved pairs.

    The first half of a head's head_dim/2 pairs turns with the row, the second with the column, at
    frequencies base^(-2i / (head_dim/2)). Position 0, the class token, has cos = sin = 0: its
    query and key vanish. That is what the released weights were trained with.

    Returns:
        (2, 1 + grid_size^2, head_dim / 2) float32.
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
    """Turn the interleaved pairs of ``x`` (B, L, H, C) by ``rotary``, in float32.

    ``rotary`` is (2, L, C/2), or (2, B, L, C/2) with positions of each image's own.
    """
    cos, sin = rotary.unsqueeze(-2)
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # it would leave complex numbers to slow kernels
        real, imaginary = pairs.unbind(-1)
        turned = torch.stack([real * cos - imaginary * sin, imaginary * cos + real * sin], dim=-1)
    else:  # one product instead of four
        product = torch.view_as_complex(pairs.contiguous()) * torch.complex(cos, sin)
        turned = torch.view_as_real(product)
    return turned.flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Bidirectional multi-head attention with fused qkv, no biases and no mask."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotary: Tensor, memory: LayerMemory | None = None) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        query, key = apply_rotary(query, rotary), apply_rotary(key, rotary)
        key, value = key.transpose(1, 2), value.transpose(1, 2)
        if memory is not None:
            key, value = memory.update(key, value)
        # No attn_mask: every position sees every other, and flash attention stays usable.
        mixed = F.scaled_dot_product_attention(query.transpose(1, 2), key, value)
        hidden: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return self.dropout(hidden)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift."""
    return torch.addcmul(x + shift, x, scale)


class TransformerLayer(nn.Module):
    """Llama layer with adaLN: gated, modulated attention and feed-forward."""

    def __init__(
        self, dim: int, num_heads: int, hidden_dim: int, *, dropout: float, norm_eps: float
    ) -> None:
        super().__init__()
        self.modulation_offset = nn.Parameter(torch.zeros(1, 6, dim))
        self.attention_norm = RMSNorm(dim, norm_eps)
        self.attention = Attention(dim, num_heads, dropout)
        self.feed_forward_norm = RMSNorm(dim, norm_eps)
        self.feed_forward = FeedForward(dim, hidden_dim, dropout)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        rotary: Tensor,
        memory: LayerMemory | None = None,
    ) -> Tensor:
        """``x`` (B, L, D), shared ``modulation`` (B, 6, D), ``rotary`` (2, L, C/2).

        With ``memory`` these may be some of the positions, and ``rotary`` (2, B, A, C/2).
        """
        offsets = (modulation + self.modulation_offset)[:, :, None, :]
        shift_attn, scale_attn, gate_attn, shift_ff, scale_ff, gate_ff = offsets.unbind(1)
        normed = modulate(self.attention_norm(x), shift_attn, scale_attn)
        mixed = self.attention(normed, rotary, memory)
        x = x + gate_attn * mixed
        fed = self.feed_forward(modulate(self.feed_forward_norm(x), shift_ff, scale_ff))
        return x + gate_ff * fed
