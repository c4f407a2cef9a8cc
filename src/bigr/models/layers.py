"""Layers of the transformer: Llama layers whose norms are modulated by adaLN.

Shapes: B batch, L positions (class token and N image tokens), D width, C width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.models.adaln import RMSNorm
from bigr.models.attention import attend
from bigr.models.key_value_memory import LayerMemory
from bigr.models.rope import apply_rotary


class FeedForward(nn.Module):
    """SwiGLU feed-forward network down(SiLU(gate(x)) * up(x)), without biases."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden_dim, bias=False)
        self.up = nn.Linear(dim, hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return self.dropout(hidden)


class Attention(nn.Module):
    """Multi-head attention with rotary embedding, without biases.

    With ``is_causal``, a position attends to itself and to those before it.
    """

    def __init__(
        self, dim: int, num_heads: int, dropout: float, *, is_causal: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.is_causal = is_causal
        self.is_fused = False
        """Whether PyTorch's fused attention is used even where matrix products are faster."""
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotary: Tensor, memory: LayerMemory | None = None) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        query, key = apply_rotary(query, rotary), apply_rotary(key, rotary)
        key, value = key.transpose(1, 2), value.transpose(1, 2)
        if memory is not None:
            key, value = memory.update(key, value)
        # A single position is the last one and attends to all others.
        is_causal = self.is_causal and x.shape[1] > 1
        query = query.transpose(1, 2)
        mixed = attend(query, key, value, is_causal=is_causal, is_fused=self.is_fused)
        hidden: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return self.dropout(hidden)


class TransformerLayer(nn.Module):
    """Attention and feed-forward network, each with a modulated norm and a gated residual."""

    def __init__(
        self, dim: int, num_heads: int, hidden_dim: int, *, dropout: float, norm_eps: float,
        is_causal: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.modulation_offset = nn.Parameter(torch.zeros(1, 6, dim))
        self.attention_norm = RMSNorm(dim, norm_eps)
        self.attention = Attention(dim, num_heads, dropout, is_causal=is_causal)
        self.feed_forward_norm = RMSNorm(dim, norm_eps)
        self.feed_forward = FeedForward(dim, hidden_dim, dropout)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        rotary: Tensor,
        memory: LayerMemory | None = None,
    ) -> Tensor:
        """Compute the layer.

        Args:
            x: (B, L, D).
            modulation: (B, 6, D) shift, scale and gate of attention and of feed-forward; all
                layers share it, and each adds an offset of its own.
            rotary: (2, L, C/2) from :func:`~bigr.models.rope.rotary_table`.
            memory: keys and values of positions that are not computed again. Then ``x`` has only
                A of the positions, and ``rotary`` is (2, B, A, C/2).

        Returns:
            The shape of ``x``.
        """
        offsets = (modulation + self.modulation_offset)[:, :, None, :]
        shift_attn, scale_attn, gate_attn, shift_ff, scale_ff, gate_ff = offsets.unbind(1)
        normed = self.attention_norm(x, shift_attn, scale_attn)
        x = x + gate_attn * self.attention(normed, rotary, memory)
        normed = self.feed_forward_norm(x, shift_ff, scale_ff)
        return x + gate_ff * self.feed_forward(normed)
