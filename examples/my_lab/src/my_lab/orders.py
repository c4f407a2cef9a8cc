"""A sampling order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bigr.sampling.orders import SamplingOrder


@dataclass(frozen=True)
class CentreFirst(SamplingOrder):
    """The tokens nearest to the centre of the image come first.

    Args:
        randomness: how much random numbers in (0, 1) change the distances, in tokens.
    """

    randomness: float = 0.0

    def scores(self, is_masked: Tensor, uniforms: Tensor) -> Tensor:
        """Return the negative distances of the tokens from the centre, (B, N)."""
        side = math.isqrt(is_masked.shape[1])
        offsets = torch.arange(side, device=uniforms.device) - (side - 1) / 2
        distances = torch.hypot(offsets[:, None], offsets[None, :]).flatten()
        return self.randomness * uniforms - distances
