"""Scores of the sampling orders."""

from __future__ import annotations

import torch

from bigr.sampling.orders import ORDERS

UNIFORMS = torch.tensor([[0.3, 0.9, 0.1, 0.5], [0.8, 0.2, 0.7, 0.6]])
IS_MASKED = torch.ones(2, 4, dtype=torch.bool)


def ranking(name: str) -> list[list[int]]:
    scores = ORDERS[name].scores(IS_MASKED, UNIFORMS)
    assert scores is not None
    return scores.argsort(dim=1, descending=True).tolist()


def test_raster_and_random() -> None:
    assert ranking("raster") == [[0, 1, 2, 3]] * 2
    assert ranking("random") == [[1, 3, 0, 2], [0, 2, 3, 1]]
    assert not ORDERS["raster"].uses_confidence
    assert not ORDERS["random"].uses_confidence


def test_confidence_adds_nothing() -> None:
    assert ORDERS["confidence"].scores(IS_MASKED, UNIFORMS) is None
    assert ORDERS["confidence"].uses_confidence
