"""Random numbers that belong to an image, not to a batch.

Every number is a hash of (seed of the image, purpose, iteration, draw, token, bit), so that an
image does not depend on the batch, device, chunk or process it is sampled in. The hash is
SplitMix64's finalizer (Steele, Lea & Flood, OOPSLA 2014; public domain) over a Weyl sequence.

Shapes: B images, N tokens per image, M tokens of any images, K bits, S draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

# The generator's constants 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9 and 0x94D049BB133111EB as int64.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
UNIFORM_BITS = 24
BITS_PURPOSE, ORDER_PURPOSE = 0, 1


class Noise(Protocol):
    """Source of the sampler's random numbers; tests also use constants."""

    def bit_uniforms(self, iteration: int, draws: Tensor, tokens: Tensor) -> Tensor:
        """Return U[0, 1) numbers (S, M, K), one for every bit.

        Args:
            iteration: 1..n.
            draws: (S,) int64. Draw 0 is for the final bits, draw j >= 1 for the noisy bits that
                the j-th denoising step reads.
            tokens: (M,) indices into B*N.
        """

    def order_uniforms(self, iteration: int) -> Tensor:
        """Return U(0, 1) numbers (B, N), one per token."""


def splitmix64(x: Tensor) -> Tensor:
    """Return SplitMix64's finalizer of int64 words; products wrap around."""
    # The masks turn torch's arithmetic shift into a logical one.
    x = (x ^ ((x >> 30) & (2**34 - 1))) * MULTIPLIERS[0]
    x = (x ^ ((x >> 27) & (2**37 - 1))) * MULTIPLIERS[1]
    return x ^ ((x >> 31) & (2**33 - 1))


def draw_words(purpose: int, iteration: int, draws: Tensor) -> Tensor:
    """Return one word per draw (S,), far apart for neighbouring iterations and draws."""
    words = torch.zeros_like(draws)
    for part in (purpose, iteration, draws):
        words = splitmix64(words + torch.as_tensor(part + 1, device=draws.device) * GOLDEN)
    return words


class SeededNoise:
    """Random numbers of a batch of images from one seed per image.

    Args:
        seeds: (B,) int64.
        seq_len: N.
        code_dim: K.
        device: where the numbers are computed.
    """

    def __init__(self, seeds: Tensor, seq_len: int, code_dim: int, device: torch.device) -> None:
        positions = torch.arange(1, seq_len + 1, device=device) * GOLDEN
        images = splitmix64(seeds.to(device) + GOLDEN)
        self.token_words = splitmix64(images[:, None] + positions)
        self.bit_words = torch.arange(1, code_dim + 1, device=device) * GOLDEN

    def bit_uniforms(self, iteration: int, draws: Tensor, tokens: Tensor) -> Tensor:
        """Return numbers as :meth:`Noise.bit_uniforms` describes them."""
        words = draw_words(BITS_PURPOSE, iteration, draws)
        keys = self.token_words.flatten()[tokens] + words[:, None]
        numbers = splitmix64(keys[..., None] + self.bit_words) >> (64 - UNIFORM_BITS)
        return (numbers & (2**UNIFORM_BITS - 1)).float() * 2.0**-UNIFORM_BITS

    def order_uniforms(self, iteration: int) -> Tensor:
        """See :meth:`Noise.order_uniforms`; the numbers are never exactly 0 or 1."""
        draw = torch.zeros(1, dtype=torch.int64, device=self.token_words.device)
        words = splitmix64(self.token_words + draw_words(ORDER_PURPOSE, iteration, draw))
        # One bit less, so that adding a half stays exact in float32.
        numbers = (words >> (65 - UNIFORM_BITS)) & (2 ** (UNIFORM_BITS - 1) - 1)
        return (numbers.float() + 0.5) * 2.0 ** -(UNIFORM_BITS - 1)


def image_seeds(
    batch_size: int,
    *,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    seeds: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Return one int64 seed per image, (B,), on the CPU.

    Args:
        batch_size: B.
        generator: draws the seeds, uniformly from 0..2^62 - 1, one after the other; or B
            generators, each of which draws one seed; None uses torch's global generator.
        seeds: the seeds themselves.

    Raises:
        ValueError: if both are given, the number of seeds or generators is wrong, or a seed is out
            of range.
    """
    if seeds is not None and generator is not None:
        raise ValueError("give either generator or seeds, not both.")
    if isinstance(generator, Sequence):
        if len(generator) != batch_size:
            raise ValueError(
                f"{batch_size} images need one generator, or {batch_size}, got {len(generator)}."
            )
        return torch.cat([image_seeds(1, generator=single) for single in generator])
    if seeds is None:
        device = generator.device if generator is not None else "cpu"
        drawn = torch.randint(2**62, (batch_size,), generator=generator, device=device)
        return drawn.cpu()
    if isinstance(seeds, int):
        raise ValueError(f"seeds must be a list with a number for each image, got {seeds}.")
    numbers = list(map(int, seeds))
    if len(numbers) != batch_size:
        raise ValueError(f"{batch_size} images need {batch_size} seeds, got {len(numbers)}.")
    if min(numbers, default=0) < 0 or max(numbers, default=0) >= 2**63:
        raise ValueError(f"seeds must lie in 0..2^63-1, got {numbers}.")
    return torch.tensor(numbers, dtype=torch.int64)
