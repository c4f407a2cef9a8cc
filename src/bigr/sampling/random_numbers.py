"""Random numbers that belong to an image, not to a batch.

Every draw is a hash of (image seed, what it is for, iteration, step, token, bit), so an image is
the same whatever batch, device, chunk or process it is sampled in. The hash is SplitMix64's
finaliser (Steele, Lea & Flood, OOPSLA 2014; public domain) over a Weyl sequence.

Shapes: B images, N tokens per image, M tokens of any images, K bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
UNIFORM_BITS = 24


class Noise(Protocol):
    """Where the sampler's random numbers come from; tests put constants here."""

    def bit_uniforms(self, iteration: int, step: int, tokens: Tensor) -> Tensor:
        """U[0, 1) for every bit: ``tokens`` (M,) are indices into B*N; returns (M, K)."""

    def order_uniforms(self, iteration: int) -> Tensor:
        """U(0, 1), one per token, (B, N)."""


def _as_signed(value: int) -> int:
    """A 64-bit word as torch's int64."""
    value %= WORD
    return value - WORD if value >= WORD // 2 else value


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 words; products wrap around."""
    x = (x ^ _shift_right(x, 30)) * _as_signed(MULTIPLIERS[0])
    x = (x ^ _shift_right(x, 27)) * _as_signed(MULTIPLIERS[1])
    return x ^ _shift_right(x, 31)


def _mix_number(x: int) -> int:
    """The same for one Python number."""
    x %= WORD
    x = ((x ^ (x >> 30)) * MULTIPLIERS[0]) % WORD
    x = ((x ^ (x >> 27)) * MULTIPLIERS[1]) % WORD
    return x ^ (x >> 31)


def _draw_offset(purpose: int, iteration: int, step: int) -> int:
    """A word per draw, far apart for neighbouring iterations and steps."""
    word = 0
    for part in (purpose, iteration, step):
        word = _mix_number(word + (part + 1) * GOLDEN)
    return _as_signed(word)


def draw_offset(iteration: int, draw: int) -> int:
    """The word that tells the bits' draws of an iteration apart: 0 is the final one's."""
    return _draw_offset(0, iteration, draw)


def uniforms_of(keys: Tensor, bit_offsets: Tensor) -> Tensor:
    """U[0, 1) from words (M,) and (K,): (M, K)."""
    words = _mix(keys[:, None] + bit_offsets)
    return _shift_right(words, 64 - UNIFORM_BITS).float() * 2.0**-UNIFORM_BITS


class SeededNoise:
    """Noise of a batch of images from one seed per image.

    Args:
        seeds: (B,) int64.
        seq_len: N.
        code_dim: K.
        device: where the numbers are made.
    """

    def __init__(self, seeds: Tensor, seq_len: int, code_dim: int, device: torch.device) -> None:
        golden = _as_signed(GOLDEN)
        positions = torch.arange(1, seq_len + 1, device=device) * golden
        images = _mix(seeds.to(device) + golden)
        self.token_keys = _mix(images[:, None] + positions)
        self.bit_offsets = torch.arange(1, code_dim + 1, device=device) * golden

    def bit_uniforms(self, iteration: int, step: int, tokens: Tensor) -> Tensor:
        """See :class:`Noise`. Step -1 is the draw of the final bits."""
        keys = self.token_keys.flatten()[tokens] + draw_offset(iteration, step + 1)
        return uniforms_of(keys, self.bit_offsets)

    def order_uniforms(self, iteration: int) -> Tensor:
        """See :class:`Noise`; never exactly 0 or 1."""
        words = _mix(self.token_keys + _draw_offset(1, iteration, 0))
        # One bit less, so that adding a half stays exact in float32.
        numbers = _shift_right(words, 65 - UNIFORM_BITS).float()
        return (numbers + 0.5) * 2.0 ** -(UNIFORM_BITS - 1)


def gumbel(uniforms: Tensor) -> Tensor:
    """-log(-log(u)): standard Gumbel noise from U(0, 1)."""
    return -(-uniforms.log()).log()


def image_seeds(
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    seeds: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """One int64 seed per image, (B,), on the CPU.

    Args:
        batch_size: B.
        generator: draws the seeds; None uses torch's global generator.
        seeds: the seeds themselves.

    Raises:
        ValueError: if both are given, the number of seeds is wrong, or one is out of range.
    """
    if seeds is None:
        device = generator.device if generator is not None else "cpu"
        drawn = torch.randint(2**62, (batch_size,), generator=generator, device=device)
        return drawn.cpu()
    if generator is not None:
        raise ValueError("give either generator or seeds, not both.")
    numbers = [int(seed) for seed in seeds]
    if len(numbers) != batch_size:
        raise ValueError(f"{batch_size} images need {batch_size} seeds, got {len(numbers)}.")
    if any(not 0 <= seed < 2**63 for seed in numbers):
        raise ValueError(f"seeds must lie in 0..2^63-1, got {numbers}.")
    return torch.tensor(numbers, dtype=torch.int64)
