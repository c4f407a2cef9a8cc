"""Features of images, and the interface of the networks that compute them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

CHUNK = 8192


class Features(NamedTuple):
    """What a network computes from B images, all float32."""

    pool: Tensor
    """(B, D) features that FID, KID, precision and recall compare."""
    logits: Tensor | None = None
    """(B, C) class logits for the Inception Score, without the network's bias, or None."""
    spatial: Tensor | None = None
    """(B, S) features for sFID, or None if the network has none."""


class FeatureNetwork(Protocol):
    """A network with fixed weights in whose feature space images are compared."""

    prefix: str
    """Prepended to the names of metrics; empty for Inception, whose FID is the standard one."""
    title: str
    """Name of the network in tables and figures."""

    @property
    def identity(self) -> str:
        """Text that changes with the weights, such as their SHA-256 checksum."""

    def to(self, device: torch.device) -> FeatureNetwork:
        """Move the network to ``device`` and return it."""

    def __call__(self, images: Tensor) -> Features:
        """Compute the features of uint8 images (B, 3, H, W)."""


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Disable autocast and TF32, which change the third digit of FID, within a block."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def check_finite(values: Tensor, what: str) -> None:
    """Raise ``ValueError`` if ``values`` (n, D) of n images contain NaN or infinity.

    Args:
        values: features of any floating-point type.
        what: the subject of the message, in the plural.
    """
    is_bad = [~chunk.isfinite().all(dim=1) for chunk in values.split(CHUNK)]
    count = sum(int(part.sum()) for part in is_bad)
    if count:
        raise ValueError(
            f"{what} of {count} of {len(values)} images are not finite: the images contain NaN, or "
            "the weights of the network are damaged."
        )
