"""Which tokens are hidden in a training step.

Shapes: B batch, N tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def training_mask_counts(seq_len: int) -> Tensor:
    """max(1, floor(N cos(pi/2 s/N))) for s = 0..N-1: the possible numbers of masked tokens."""
    counts = [
        max(1, math.floor(seq_len * math.cos(math.pi / 2 * s / seq_len))) for s in range(seq_len)
    ]
    return torch.tensor(counts, device="cpu")


def draw_training_mask(
    batch_size: int, counts: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Hide n uniformly chosen tokens of every image, one n for the whole batch.

    Args:
        batch_size: B.
        counts: (N,) from :func:`training_mask_counts`, on the target device.
        generator: on that device.

    Returns:
        (B, N) bool, True = masked. Nothing here waits for the device.
    """
    (seq_len,) = counts.shape
    device = counts.device
    step = torch.randint(seq_len, (1,), generator=generator, device=device)
    noise = torch.rand(batch_size, seq_len, generator=generator, device=device)
    ranks = noise.argsort(dim=1).argsort(dim=1)
    return ranks < counts[step]
