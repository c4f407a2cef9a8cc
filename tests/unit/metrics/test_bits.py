"""Bit usage, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bigr.metrics.bits import BitUsage


def test_figures() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.bernoulli(torch.full((60, 5, 4, 4), 0.3), generator=generator)
    codes[:, 1] = codes[:, 0]  # a copy
    codes[:, 2] = 1 - codes[:, 3]  # an opposite
    codes[:, 4] = 0  # dead
    codes[0, 4, 0, 0] = 1
    usage = BitUsage(5)
    for part in codes.split(13):
        usage.update(part)
    figures = usage.compute()
    bits = codes.transpose(0, 1).flatten(1).double().numpy()
    mean = bits.mean(1)
    assert np.allclose(figures.mean, mean)
    entropy = -(mean * np.log2(mean) + (1 - mean) * np.log2(1 - mean))
    assert np.allclose(figures.entropy, entropy, atol=1e-5)
    assert figures.dead.item() == 1
    correlation = np.abs(np.corrcoef(bits))[~np.eye(5, dtype=bool)]
    assert figures.correlation.item() == pytest.approx(correlation.mean(), abs=1e-5)
    assert figures.max_correlation.item() == pytest.approx(1, abs=1e-4)
    usage.reset()
    usage.update(torch.zeros(2, 5, 4, 4))
    assert usage.compute().dead == 5
    assert usage.compute().correlation == 0
