"""The denoiser: an MLP that sees one token's noisy bits, their noise level and its condition.

With ``objective=categorical``, the noisy bits are the known ones of a token, the noise level is the
number of a group of bits, and the K outputs are those of a softmax: see
:mod:`bigr.models.categorical`.

Shapes: M tokens, K bits, D width of the transformer, W width of the denoiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.models.config import BiGRConfig
from bigr.models.products import Product, Products

FREQUENCY_DIM = 256
MAX_PERIOD = 10_000.0
NORM_EPS = 1e-6


class DenoiserLayers(NamedTuple):
    """The linear layers of a denoiser and the forward pass through them.

    Training uses the modules themselves, sampling uses :meth:`Denoiser.prepare`.
    """

    modulation: Callable[[Tensor], Tensor | Sequence[Tensor]]
    """(R, W) to (R, W) each: shift, 1 + scale and gate of each block; shift, 1 + scale at last.

    They may also be concatenated in one tensor (R, (3 n + 2) W), for n blocks.
    """
    input: Product
    blocks: Sequence[tuple[Product, Product]]
    output: Product

    def logits(self, signs: Tensor, embedding: Tensor) -> Tensor:
        """Compute the bit logits (R, K).

        Each block is x + gate * MLP(LN(x) * (1 + scale) + shift). The sum and the logits have the
        type of ``embedding``, in whatever type the layers multiply.

        Args:
            signs: (M, K) noisy bits as -1 and 1.
            embedding: (R, W) time and condition; R = M, or 2 M for two conditions per token.
        """
        parts = self.modulation(F.silu(embedding))
        if isinstance(parts, Tensor):
            parts = parts.float().chunk(3 * len(self.blocks) + 2, dim=-1)
        x = self.input(signs).to(embedding.dtype)
        if len(embedding) != len(signs):
            x = torch.cat([x, x])
        shape = x.shape[-1:]
        for index, (first, second) in enumerate(self.blocks):
            shift, scale, gate = parts[3 * index : 3 * index + 3]
            normed = F.layer_norm(x, shape, eps=NORM_EPS)
            hidden = first(torch.addcmul(shift, normed, scale))
            x = torch.addcmul(x, gate, second(F.silu(hidden)).to(x.dtype))
        normed = F.layer_norm(x, shape, eps=NORM_EPS)
        return self.output(torch.addcmul(parts[-2], normed, parts[-1])).to(embedding.dtype)


class DenoiserBlock(nn.Module):
    """Weights of one residual block; :class:`DenoiserLayers` has its equation."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.modulation = nn.Linear(dim, 3 * dim)


class Denoiser(nn.Module):
    """Bit logits from noisy bits, noise level and condition; tokens do not see each other."""

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
        self.output = nn.Linear(width, config.num_outputs)
        self.reset_parameters(config.init_std)

    def reset_parameters(self, std: float) -> None:
        """N(0, ``std``) weights and zero biases; modulation and output weights start at zero."""
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
        """Embed noise levels (M,) in 1..T as (M, W); the network counts them from 0.

        The MLP sees cosines, then sines, at 128 periods from 2 pi to 2 pi * 10,000.
        """
        half = FREQUENCY_DIM // 2
        exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
        angles = (t - 1).float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponents)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        embedding: Tensor = self.time_embedding(waves.to(self.input.weight.dtype))
        return embedding

    def predict(self, signs: Tensor, embedding: Tensor) -> Tensor:
        """Compute bit logits with gradients, see :meth:`DenoiserLayers.logits`."""

        def modulation(activated: Tensor) -> list[Tensor]:
            parts: list[Tensor] = []
            layers = (*(block.modulation for block in self.blocks), self.output_modulation)
            for layer in cast(Sequence[nn.Linear], layers):
                shift, scale, *gate = layer(activated).split(activated.shape[-1], dim=-1)
                parts += [shift, 1.0 + scale.float(), *gate]
            return parts

        blocks = [(block.mlp[0], block.mlp[2]) for block in cast(list[Any], self.blocks)]
        layers = DenoiserLayers(modulation, self.input, blocks, self.output)
        return layers.logits(signs, embedding)

    @torch.no_grad()
    def prepare(self, products: Products) -> DenoiserLayers:
        """Arrange the layers for many calls without gradients: all modulations are one product.

        The weights are read now, so later changes of them may have no effect.

        Args:
            products: how the layers multiply.
        """
        product = products.product
        weights, biases, blocks = [], [], []
        for block in self.blocks:
            assert isinstance(block, DenoiserBlock)
            weights.append(block.modulation.weight)
            biases.append(block.modulation.bias)
            first, _, second = cast(list[nn.Linear], block.mlp)
            blocks.append((product(first.weight, first.bias), product(second.weight, second.bias)))
        weight = torch.cat([*weights, self.output_modulation.weight])
        bias = torch.cat([*biases, self.output_modulation.bias])
        parts = bias.view(-1, self.input.out_features)
        parts[1::3] += 1.0  # 1 + scale
        return DenoiserLayers(
            product(weight, bias),
            product(self.input.weight, self.input.bias),
            blocks,
            product(self.output.weight, self.output.bias),
        )

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Compute bit logits (M, K).

        Args:
            x_t: (M, K) noisy bits, 0 or 1.
            t: (M,) noise levels in 1..T.
            condition: (M, D) the transformer's output per token.
        """
        return self.predict(2.0 * x_t - 1.0, self.condition(condition) + self.embed_time(t))
