"""Scores of the sampling orders."""

from __future__ import annotations

import pytest
import torch

from bigr.sampling.orders import ORDERS, halton_ranks
from tests import plain

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


def test_halton_on_four_and_sixteen_cells() -> None:
    """(1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9) ...: the cells of the first points by hand."""
    assert ranking("halton") == [[2, 1, 0, 3]] * 2
    ones = torch.ones(1, 16)
    scores = ORDERS["halton"].scores(ones.bool(), ones)
    assert scores is not None
    assert scores.argsort(descending=True)[0, :5].tolist() == [9, 6, 12, 1, 11]


@pytest.mark.parametrize("side", [1, 4, 16, 32])
def test_halton_visits_every_cell_once_like_scipy(side: int) -> None:
    assert sorted(halton_ranks(side)) == list(range(side * side))
    assert halton_ranks(side) == plain.halton_ranks(side)


def test_confidence_adds_nothing() -> None:
    assert ORDERS["confidence"].scores(IS_MASKED, UNIFORMS) is None
    assert ORDERS["confidence"].uses_confidence
