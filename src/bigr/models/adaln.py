"""Modulation by adaptive layer normalisation (adaLN, DiT, arXiv 2212.09748)."""

from __future__ import annotations

import torch
from torch import Tensor


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Compute x * (1 + scale) + shift; all three broadcast to the shape of ``x``."""
    return torch.addcmul(x + shift, x, scale)
