"""Features of images, and the interface of the networks that compute them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Features(NamedTuple):
    """What a network computes from B images, all float32."""

    pool: Tensor
    """(B, D) features that FID, KID, precision and recall compare."""
    logits: Tensor
    """(B, C) class logits for the Inception Score, without the network's bias."""
    spatial: Tensor | None = None
    """(B, S) features for sFID, or None if the network has none."""


class FeatureNetwork(Protocol):
    """A network with fixed weights in whose feature space images are compared."""

    prefix: str
    """Prepended to the names of metrics; empty for Inception, whose FID is the standard one."""
    title: str
    """Name of the network in tables and figures."""
    identity: str
    """SHA-256 checksum that changes with the weights."""

    def to(self, device: torch.device) -> FeatureNetwork:
        """Move the network to ``device`` and return it."""

    def __call__(self, images: Tensor) -> Features:
        """Compute the features of uint8 images (B, 3, H, W)."""
