"""Names and titles of figures, and what is said about surprising ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from bigr.evaluation.fidelity_names import explanations, metric_name, metric_title


@dataclasses.dataclass
class Named:
    """Only the names of a network."""

    prefix: str
    title: str
    identity: str = ""

    def to(self, device: torch.device) -> Named:
        return self

    def __call__(self, images: torch.Tensor) -> Any:
        raise NotImplementedError


INCEPTION = Named("", "Inception")
OTHER = Named("digits_", "digits classifier")


@pytest.mark.parametrize(
    ("name", "network", "count", "title"),
    [
        ("fid", INCEPTION, 50_000, "FID-50k"),
        ("fid", INCEPTION, 1234, "FID-1234"),
        ("fid", INCEPTION, None, "FID"),
        ("sfid", INCEPTION, 5000, "sFID-5k"),
        ("is", INCEPTION, 5000, "IS-5k"),
        ("kid", INCEPTION, 5000, "KID-5k (x1000)"),
        ("kid", OTHER, None, "kernel distance (x1000, digits classifier)"),
        ("fid", OTHER, 1000, "Frechet distance-1k (digits classifier)"),
        ("recall", OTHER, 1000, "recall-1k (digits classifier)"),
    ],
)
def test_titles(name: str, network: Named, count: int | None, title: str) -> None:
    assert metric_title(name, network, count) == title  # type: ignore[arg-type]


def test_only_inceptions_is_called_fid() -> None:
    assert metric_name("fid", INCEPTION) == "fid"  # type: ignore[arg-type]
    assert metric_name("fid", OTHER) == "digits_frechet"  # type: ignore[arg-type]
    assert metric_name("recall", OTHER) == "digits_recall"  # type: ignore[arg-type]


def test_explanations() -> None:
    assert explanations({"fid": 1.0, "kid": 0.0}, INCEPTION, 2049, 2048) == []  # type: ignore[arg-type]
    negative, few = explanations({"fid": 1.0, "kid": -1e-9}, OTHER, 2048, 2048)  # type: ignore[arg-type]
    assert "negative because its estimate is unbiased" in negative
    assert "2,048 images are too few to determine the covariance of 2,048 features" in few
    assert "Frechet distance (digits classifier) larger" in few
