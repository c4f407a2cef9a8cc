"""Sampling orders: which masked tokens are decided first.

To add one, derive from :class:`SamplingOrder` and set ``sampler.order`` to it.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


class SamplingOrder(ABC):
    """In each iteration, the tokens with the highest scores are decided."""

    uses_confidence: ClassVar[bool] = False
    """Add the confidence and its Gumbel noise to the scores; without it, only the chosen tokens
    have to be denoised."""

    @abstractmethod
    def scores(self, is_masked: Tensor, uniforms: Tensor) -> Tensor | None:
        """Return float32 scores (B, N), or None for zeros.

        Args:
            is_masked: (B, N) bool, the tokens to choose from.
            uniforms: (B, N) random numbers in (0, 1), new ones in each iteration.
        """


@dataclass(frozen=True)
class ConfidenceOrder(SamplingOrder):
    """The most confident tokens first: entropy-ordered sampling."""

    uses_confidence: ClassVar[bool] = True

    def scores(self, is_masked: Tensor, uniforms: Tensor) -> Tensor | None:  # noqa: ARG002
        return None


@dataclass(frozen=True)
class RandomOrder(SamplingOrder):
    """All tokens in a random order."""

    def scores(self, is_masked: Tensor, uniforms: Tensor) -> Tensor:  # noqa: ARG002
        return uniforms


@dataclass(frozen=True)
class RasterOrder(SamplingOrder):
    """Tokens row by row, from left to right."""

    def scores(self, is_masked: Tensor, uniforms: Tensor) -> Tensor:
        import torch  # here, so that configurations can be read without it

        return -torch.arange(is_masked.shape[1], device=uniforms.device).float().expand_as(uniforms)


@dataclass(frozen=True)
class HaltonOrder(SamplingOrder):
    """Tokens far from each other one after the other (Halton-MaskGIT, arXiv 2503.17076)."""

    def scores(self, is_masked: Tensor, uniforms: Tensor) -> Tensor:
        import torch  # here, so that configurations can be read without it

        ranks = torch.tensor(halton_ranks(math.isqrt(is_masked.shape[1])), device=uniforms.device)
        return -ranks.float().expand_as(uniforms)


@functools.cache
def halton_ranks(side: int) -> list[int]:
    """Return when the Halton sequence first visits each cell of a grid, row by row.

    Point i = 1, 2, ... is the radical inverse of i in base 2 (row) and base 3 (column).
    """
    ranks: dict[int, int] = {}
    index = 0
    while len(ranks) < side * side:
        index += 1
        cell = 0
        for base in (2, 3):
            # Reflect the digits of the index at the point: 6 = 110 in base 2 becomes 0.011.
            rest, numerator, denominator = index, 0, 1
            while rest:
                rest, digit = divmod(rest, base)
                numerator, denominator = numerator * base + digit, denominator * base
            cell = cell * side + side * numerator // denominator
        ranks.setdefault(cell, len(ranks))
    return [ranks[cell] for cell in range(side * side)]


ORDERS: dict[str, SamplingOrder] = {
    "confidence": ConfidenceOrder(), "random": RandomOrder(), "raster": RasterOrder(),
    "halton": HaltonOrder(),
}  # fmt: skip
