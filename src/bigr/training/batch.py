"""What a data module hands to a training step."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from bigr.data.broken import BrokenImage


class Batch(NamedTuple):
    """Images or codes, with labels."""

    labels: Tensor
    """(B,) int64."""
    images: Tensor | None = None
    """(B, 3, H, W) float in [0, 1]."""
    codes: Tensor | None = None
    """(B, N, K) float 0/1."""
    broken: tuple[BrokenImage, ...] = ()
    """Images that others stand in for."""
