"""All random numbers of a training step; given these, the loss is deterministic.

Shapes: B batch, N tokens, K bits, L noise levels per token (1 in the paper).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bigr.models.config import BiGRConfig


class TrainingDraws(NamedTuple):
    """Which tokens are masked, how they are noised, and which labels are dropped."""

    num_masked: int
    """Tokens hidden in every image; known on the host, so that shapes may depend on it."""
    is_masked: Tensor
    """(B, N) bool, True = to be predicted."""
    is_unconditional: Tensor
    """(B,) bool: the label becomes the null class, in training mode."""
    timesteps: Tensor
    """(L * B, N) int64 noise levels in 1..T, one batch after the other; T without diffusion."""
    noise: Tensor
    """(L * B, N, K) uniform in [0, 1): a noisy bit is 1 where it lies below q(x_t = 1 | x_0)."""
    is_flipped: Tensor | None = None
    """(B, N, K) bool: bits of known tokens that the transformer sees flipped; None flips none."""

    @property
    def num_levels(self) -> int:
        """Noise levels per token, L."""
        return len(self.timesteps) // len(self.is_masked)

    def rows(self, rows: slice) -> TrainingDraws:
        """Return the draws of some of the images."""
        levels = self.num_levels
        timesteps, noise = (
            tensor.unflatten(0, (levels, -1))[:, rows].flatten(0, 1)
            for tensor in (self.timesteps, self.noise)
        )
        masks = self.is_masked[rows], self.is_unconditional[rows]
        flips = None if self.is_flipped is None else self.is_flipped[rows]
        return TrainingDraws(self.num_masked, *masks, timesteps, noise, flips)

    def masked_first(self) -> Tensor:
        """Return the positions of the masked tokens, (B, num_masked), in ascending order."""
        order = (~self.is_masked).to(torch.uint8).argsort(dim=1, stable=True)
        return order[:, : self.num_masked]


def training_mask_count(seq_len: int, step: int) -> int:
    """max(1, floor(N cos(pi/2 s/N))): tokens that are hidden if ``step`` s in 0..N-1 was drawn."""
    return max(1, math.floor(seq_len * math.cos(math.pi / 2 * step / seq_len)))


def draw_num_masked(config: BiGRConfig, generator: torch.Generator | None = None) -> int:
    """Draw how many tokens of each image are predicted in a training step.

    A masked transformer predicts :func:`training_mask_count` of s ~ U{0..N-1} tokens, a causal one
    all of them. ``generator`` is one of the CPU.
    """
    if config.attention == "causal":
        return config.seq_len
    step = torch.randint(config.seq_len, (), generator=generator, device="cpu")
    return training_mask_count(config.seq_len, int(step))


def draw_training(
    config: BiGRConfig,
    batch_size: int,
    *,
    num_masked: int,
    num_levels: int = 1,
    flip_rate: float = 0.0,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> TrainingDraws:
    """Draw all random numbers of a training step except dropout.

    Args:
        config: configuration of the generator.
        batch_size: B.
        num_masked: tokens to hide in every image, from :func:`draw_num_masked`: one for the whole
            batch, uniformly chosen in each image.
        num_levels: noise levels per token, L. Several levels are evenly spaced on a circle of 1..T
            that is turned by a random angle for each token. Each level is therefore uniform, and
            together they cover low and high levels.
        flip_rate: highest share of the bits that are flipped. The share of an image is uniform in
            [0, ``flip_rate``], and each of its bits is flipped independently.
        generator: on ``device``; None uses the global one.
        device: device of the result; the host does not wait for it.
    """
    size = (batch_size, config.seq_len)
    repeated = (num_levels * batch_size, config.seq_len)
    drops = torch.rand(batch_size, generator=generator, device=device)
    places = torch.rand(size, generator=generator, device=device)
    draws = TrainingDraws(
        num_masked=num_masked,
        is_masked=places.argsort(dim=1).argsort(dim=1) < num_masked,
        is_unconditional=drops < config.class_dropout,
        timesteps=_draw_levels(config, size, num_levels, generator, device),
        noise=torch.rand(*repeated, config.code_dim, generator=generator, device=device),
    )
    if flip_rate > 0.0:  # last, so that all other numbers stay the same
        rates = flip_rate * torch.rand(batch_size, 1, 1, generator=generator, device=device)
        chances = torch.rand(*size, config.code_dim, generator=generator, device=device)
        draws = draws._replace(is_flipped=chances < rates)
    return draws


def _draw_levels(
    config: BiGRConfig,
    size: tuple[int, int],
    num_levels: int,
    generator: torch.Generator | None,
    device: torch.device | str,
) -> Tensor:
    """Return the noise levels (L * B, N) of :func:`draw_training`."""
    highest = config.num_diffusion_steps
    if num_levels == 1 or not config.uses_diffusion:
        lowest = 1 if config.uses_diffusion else highest
        size = (num_levels * size[0], size[1])
        return torch.randint(lowest, highest + 1, size, generator=generator, device=device)
    start = torch.rand(size, generator=generator, device=device)
    shifts = torch.arange(num_levels, device=device) / num_levels
    places = (start + shifts[:, None, None]) % 1.0  # (L, B, N) in [0, 1)
    return ((places * highest).long() + 1).clamp(max=highest).flatten(0, 1)
