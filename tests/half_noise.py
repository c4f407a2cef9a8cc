"""Random numbers of the sampler that take the randomness out."""

from __future__ import annotations

import torch
from torch import Tensor


class HalfNoise:
    """Every uniform number is one half: x_T = 0, and bits are [p > 0.5].

    It takes the place of :class:`bigr.sampling.random_numbers.SeededNoise`.
    """

    def __init__(
        self, seeds: Tensor, seq_len: int, code_dim: int, device: torch.device | str = "cpu"
    ) -> None:
        self.shape = (len(seeds), seq_len)
        self.bits = code_dim
        self.device = device

    def bit_uniforms(self, iteration: int, draws: Tensor, tokens: Tensor) -> Tensor:
        return torch.full((len(draws), len(tokens), self.bits), 0.5, device=self.device)

    def order_uniforms(self, iteration: int) -> Tensor:
        return torch.full(self.shape, 0.5, device=self.device)
