"""The denoiser: an MLP that sees one token's noisy bits, its noise level and its condition.

Shapes: M tokens, K bits, D width of the transformer, W width of the denoiser.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.models.adaln import modulate
from bigr.models.config import BiGRConfig

FREQUENCY_DIM = 256
MAX_PERIOD = 10_000.0
NORM_EPS = 1e-6


def sinusoidal_embedding(t: Tensor) -> Tensor:
    """(M,) noise levels to (M, 256): cosines, then sines, at periods 2 pi .. 2 pi 10,000."""
    half = FREQUENCY_DIM // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class DenoiserBlock(nn.Module):
    """x + gate * MLP(LN(x) * (1 + scale) + shift)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.modulation = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor, activated: Tensor) -> Tensor:
        """``x`` (M, W), ``activated`` = SiLU of the embedding (M, W)."""
        shift, scale, gate = self.modulation(activated).chunk(3, dim=-1)
        normed = F.layer_norm(x, (x.shape[-1],), eps=NORM_EPS)
        return x + gate * self.mlp(modulate(normed, shift, scale))


class Denoiser(nn.Module):
    """Bit logits from noisy bits, noise level and condition; tokens don't see each other."""

    def __init__(self, config: BiGRConfig) -> None:
        super().__init__()
        width = config.denoiser_dim
        self.time_embedding = nn.Sequential(
            nn.Linear(FREQUENCY_DIM, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.input = nn.Linear(config.code_dim, width)
        self.condition = nn.Linear(config.dim, width)
        self.blocks = nn.ModuleList(DenoiserBlock(width) for _ in range(config.denoiser_blocks))
        self.output_modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, config.code_dim)
        self.reset_parameters(config.init_std)

    def reset_parameters(self, std: float) -> None:
        """N(0, ``std``) weights and zero biases; modulation and output start at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, DenoiserBlock)
            nn.init.zeros_(block.modulation.weight)
        nn.init.zeros_(self.output_modulation.weight)
        nn.init.zeros_(self.output.weight)

    def embed_time(self, t: Tensor) -> Tensor:
        """(M,) noise levels in 1..T to (M, W). The network counts them from 0."""
        frequencies = sinusoidal_embedding(t - 1)
        embedding: Tensor = self.time_embedding(frequencies.to(self.input.weight.dtype))
        return embedding

    def predict(self, signs: Tensor, embedding: Tensor) -> Tensor:
        """Bit logits from signs (M, K) = 2 x_t - 1 and time + condition embedding (M, W)."""
        activated = F.silu(embedding)
        x = self.input(signs)
        for block in self.blocks:
            x = block(x, activated)
        shift, scale = self.output_modulation(activated).chunk(2, dim=-1)
        normed = F.layer_norm(x, (x.shape[-1],), eps=NORM_EPS)
        logits: Tensor = self.output(modulate(normed, shift, scale))
        return logits

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Bit logits (M, K).

        Args:
            x_t: (M, K) noisy bits, 0 or 1.
            t: (M,) noise levels in 1..T.
            condition: (M, D) the transformer's output per token.
        """
        return self.predict(2.0 * x_t - 1.0, self.condition(condition) + self.embed_time(t))
