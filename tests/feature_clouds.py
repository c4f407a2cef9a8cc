"""Random features for tests of metrics, and their moments by NumPy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigr.metrics.moments import Moments

Array = NDArray[np.float64]


def cloud(count: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated features, few directions of which matter, all positive as pool features are."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.Generator().manual_seed(99)
    mixing = (
        torch.randn(dim, dim, generator=shared) * torch.linspace(0, 6, dim).neg().exp()[:, None]
    )
    noise = torch.randn(count, dim, generator=generator)
    return 0.4 + shift + 0.3 * noise @ mixing / dim**0.5 * 4


def moments(features: Tensor, parts: int = 7) -> Moments:
    found = Moments(features.shape[1])
    for part in features.chunk(parts):
        found.update(part)
    return found


def numpy_moments(features: Tensor) -> tuple[Array, Array]:
    x = features.double().numpy()
    return x.mean(axis=0), np.cov(x, rowvar=False)
