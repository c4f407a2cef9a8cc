"""Reference statistics: the same from everywhere, and refused where they don't fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bigr.evaluation import references
from bigr.evaluation.references import load_reference, read_reference, write_reference
from bigr.inference.processes import ALONE
from bigr.metrics.digit_classifier import DigitFeatureNetwork
from bigr.metrics.feature_networks import Features
from bigr.metrics.statistics import Reference

CPU = torch.device("cpu")


class Squares:
    """A network that is a formula."""

    prefix, title, identity = "", "squares", "squares-1"
    calls = 0

    def to(self, device: torch.device) -> Squares:
        return self

    def __call__(self, images: torch.Tensor) -> Features:
        Squares.calls += len(images)
        x = images.float() / 255
        pool = torch.cat([x.mean(dim=(2, 3)), x.square().mean(dim=(2, 3))], dim=1)
        return Features(pool, pool, x.flatten(1)[:, :5])


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGR_CACHE", str(tmp_path / "cache"))


def load(where: Any, size: int = 16, **settings: Any) -> Reference:
    return load_reference(
        str(where),
        settings.pop("network", Squares()),
        size,
        processes=ALONE,
        device=CPU,
        **settings,
    )


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    for index, image in enumerate(pixels):
        path = tmp_path / "images" / "val" / f"class{index % 2}" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "images"


def statistics(pixels: np.ndarray[Any, Any]) -> dict[str, Any]:
    features = Squares()(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    x, s = features.pool.double().numpy(), features.spatial.double().numpy()  # type: ignore[union-attr]
    return {
        "mu": x.mean(0),
        "sigma": np.cov(x, rowvar=False),
        "mu_s": s.mean(0),
        "sigma_s": np.cov(s, rowvar=False),
    }


def check(reference: Reference, expected: dict[str, Any]) -> None:
    found = (
        reference.mean,
        reference.covariance,
        reference.spatial_mean,
        reference.spatial_covariance,
    )
    for value, name in zip(found, ("mu", "sigma", "mu_s", "sigma_s"), strict=True):
        assert value is not None
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-7)


def test_folder_and_cache(folder: Path, pixels: np.ndarray[Any, Any]) -> None:
    expected = statistics(pixels)
    reference = load(folder)
    check(reference, expected)
    assert reference.points is not None
    assert len(reference.points) == 30
    before = Squares.calls
    check(load(folder), expected)
    assert Squares.calls == before  # out of the cache
    (folder / "val" / "class0" / "00.png").unlink()
    assert load(folder).identity["count"] == 29  # another folder now


def test_adm_file(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path = tmp_path / "adm.npz"
    np.savez(path, arr_0=pixels, **statistics(pixels))
    reference = load(path)
    check(reference, statistics(pixels))
    features = Squares()(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert reference.points is not None
    torch.testing.assert_close(reference.points, features.pool)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"arr_0": np.zeros((9, 32, 32, 3), np.uint8)},
            "32x32 pixels, and the generated ones have 16x16",
        ),
        ({"arr_0": np.zeros((9, 16, 16, 3), np.float32)}, "arr_0 is float32 of shape"),
        ({"mu": None}, "has no mu: it isn't a reference of ADM"),
    ],
)
def test_adm_files_that_do_not_fit(
    tmp_path: Path, pixels: np.ndarray[Any, Any], change: dict[str, Any], message: str
) -> None:
    arrays = {"arr_0": pixels, **statistics(pixels), **change}
    path = tmp_path / "adm.npz"
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        load(path)


def test_statistics_of_another_network(
    tmp_path: Path,
    pixels: np.ndarray[Any, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file whose images don't have its statistics is told."""
    monkeypatch.setattr(references, "SUSPICIOUS_DISTANCE", 0.5)
    wrong = statistics(pixels)
    wrong["mu"] = wrong["mu"] + 1.0
    np.savez(tmp_path / "adm.npz", arr_0=pixels, **wrong)
    with caplog.at_level(logging.WARNING):
        load(tmp_path / "adm.npz")
    assert "its images are 6.0 away from its statistics" in caplog.text


def test_own_files(tmp_path: Path, folder: Path) -> None:
    reference = load(folder)
    path = tmp_path / "own.npz"
    write_reference(reference, path)
    assert read_reference(path).identity == reference.identity
    assert torch.equal(load(path).covariance, reference.covariance)
    assert set(np.load(path).files) >= {"mu", "sigma", "mu_s", "sigma_s"}  # as ADM's suite reads
    with pytest.raises(ValueError, match="was made with image_size 16, and this evaluation has 32"):
        load(path, size=32)
    other = Squares()
    other.identity = "squares-2"
    with pytest.raises(ValueError, match="was made with network squares-1"):
        load(path, network=other)


def test_digits_are_the_held_out_ones() -> None:
    reference = load("digits", network=DigitFeatureNetwork())
    assert reference.identity["count"] == 360
    train = load("digits", network=DigitFeatureNetwork(), split="train")
    assert train.identity["count"] == 1437


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file or folder, seen from"):
        load(tmp_path / "nothing.npz")
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(ValueError, match=r"isn't an \.npz, a folder or digits"):
        load(tmp_path / "text.txt")
