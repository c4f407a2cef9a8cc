"""Figures of sets, and the table that they are printed in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bigr.evaluation.feature_chunks import FeatureChunks
from bigr.evaluation.fidelity_figures import (
    SetFigures,
    cells_of_published,
    cells_of_repeats,
    set_figures,
    table,
)
from bigr.inference.processes import ALONE
from bigr.metrics.features import Features
from bigr.metrics.moments import Moments
from bigr.metrics.statistics import Reference


class Named:
    """Only the names of a network."""

    prefix, title, identity = "own_", "own classifier", ""

    def to(self, device: torch.device) -> Named:
        return self

    def __call__(self, images: Tensor) -> Features:
        raise NotImplementedError


def test_figures_of_the_files_of_a_set(tmp_path: Path) -> None:
    """The accuracy is that of the logits, in the order of the images."""
    generator = torch.Generator().manual_seed(0)
    pool, real = (torch.randn(50, 4, generator=generator) for _ in range(2))
    labels = torch.arange(50) % 3
    logits = torch.nn.functional.one_hot(labels, 3).float()
    logits[[4, 17, 30, 31, 49]] *= -1  # wrong ones
    chunks = FeatureChunks(tmp_path, {}, 50, 20)
    whole = {"pool": pool, "logits": logits}
    chunks.fill(
        ALONE,
        lambda todo: (
            {name: value[part.start : part.stop] for name, value in whole.items()} for part in todo
        ),
    )
    moments = Moments(4)
    moments.update(real)
    reference = Reference(moments.mean, moments.covariance, points=real)
    found = set_figures(chunks, labels, Named(), reference, "cpu")
    assert found.values["accuracy"] == 0.9
    assert torch.equal(found.features.pool, pool)
    assert found.features.spatial is None
    assert "accuracy" not in set_figures(chunks, None, Named(), reference, "cpu").values


def test_only_headings_with_an_entry() -> None:
    values = {"fid": 2.0, "kid": 0.00123}
    assert table(values, Named(), 5000) == (
        ("measured",),
        [
            ("Frechet distance-5k (own classifier)", "2"),
            ("kernel distance-5k (x1000, own classifier)", "1.23"),
        ],
    )
    cells = cells_of_published(values, {"fid": 2.5, "is": 3.0}, {"fid": 0.4})
    headings, rows = table(values, Named(), 5000, cells)
    assert headings == ("measured", "published", "tolerance", "agrees")
    assert [row[1:] for row in rows] == [("2", "2.5", "0.4", "NO"), ("1.23", "", "", "")]


def test_repetitions_in_full_precision() -> None:
    """The spread of values that differ in the tenth digit."""
    nothing = Features(torch.zeros(2, 1))
    sets = [SetFigures({"fid": 2 + step * 1e-10}, nothing) for step in (0, 2, 1)]
    means, about, cells = cells_of_repeats(sets)
    assert means["fid"] == pytest.approx(2 + 1e-10, rel=1e-14)
    assert about["fid"]["minimum"] == 2
    assert about["fid"]["spread"] == pytest.approx(1e-10, rel=1e-4)
    assert cells == {"fid": {"minimum": "2", "spread": "1e-10"}}
