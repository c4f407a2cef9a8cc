"""Reference statistics: the same from everywhere, and refused where they don't fit."""

from __future__ import annotations

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bigr.data.locks import only_writer
from bigr.evaluation import references
from bigr.evaluation.reference_files import read_reference, write_reference
from bigr.evaluation.references import load_reference
from bigr.inference.processes import ALONE
from bigr.metrics.digit_classifier import DigitFeatureNetwork
from bigr.metrics.features import Features
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
            "32x32 pixels, but the generated ones have 16x16",
        ),
        ({"arr_0": np.zeros((9, 16, 16, 3), np.float32)}, "arr_0 is float32 of shape"),
        ({"mu": None}, "has no mu: it is not a reference of ADM"),
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
    assert "the FID between its images and its statistics is 6.0" in caplog.text


def test_own_files(tmp_path: Path, folder: Path) -> None:
    reference = load(folder)
    path = tmp_path / "own.npz"
    write_reference(reference, path)
    assert read_reference(path).identity == reference.identity
    assert torch.equal(load(path).covariance, reference.covariance)
    assert set(np.load(path).files) >= {"mu", "sigma", "mu_s", "sigma_s"}  # as ADM's suite reads
    with pytest.raises(ValueError, match="was made with image_size 16, but this evaluation has 32"):
        load(path, size=32)
    other = Squares()
    other.identity = "squares-2"
    with pytest.raises(ValueError, match="was made with network squares-1"):
        load(path, network=other)


def test_no_half_is_taken_of_statistics(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "own.npz"
    write_reference(load(folder), path)
    with pytest.raises(ValueError, match=r"reference_split=val_odd needs images.*split=val, or"):
        load(path, split="val_odd")


def test_digits_are_the_held_out_ones() -> None:
    reference = load("digits", network=DigitFeatureNetwork())
    assert reference.identity["count"] == 360
    train = load("digits", network=DigitFeatureNetwork(), split="train")
    assert train.identity["count"] == 1437


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file or folder, seen from"):
        load(tmp_path / "nothing.npz")
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(ValueError, match=r"must be an \.npz file, a folder, or digits"):
        load(tmp_path / "text.txt")


def damaged(name: str, change: Any) -> Any:
    """Statistics with one array changed."""
    return lambda arrays: {**arrays, name: change(arrays[name].copy())}


def with_value(place: Any, value: float) -> Any:
    def change(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array[place] = value
        return array

    return change


INVALID = {
    "NaN in the mean": (damaged("mu", with_value(2, np.nan)), "mu contains NaN or infinity"),
    "infinite covariance": (damaged("sigma_s", with_value((0, 0), np.inf)), "sigma_s contains NaN"),
    "negated covariance": (damaged("sigma", np.negative), "sigma has the trace -"),
    "negated spatial covariance": (damaged("sigma_s", np.negative), "sigma_s has the trace -"),
    "another sign": (damaged("sigma", with_value((1, 1), -1e-4)), "sigma is not positive semi-def"),
    "not symmetric": (damaged("sigma", with_value((0, 1), 0.1)), "sigma is not symmetric"),
    "too many features": (damaged("mu", lambda mu: np.append(mu, 0)), "mu and sigma do not fit"),
    "a mean that is a matrix": (damaged("mu", lambda mu: mu[None]), "mu and sigma do not fit"),
    "no features": (damaged("mu", lambda mu: mu[:0]), "mu and sigma do not fit"),
    "one without the other": (
        lambda arrays: {n: a for n, a in arrays.items() if n != "sigma_s"},
        "mu_s and sigma_s do not fit",
    ),
    "whole numbers": (damaged("mu", lambda mu: mu.astype(np.int64)), "mu has the type int64"),
    "complex numbers": (damaged("mu", lambda mu: mu + 1j), "mu has the type complex128"),
    "words": (damaged("mu", lambda mu: mu.astype(str)), "mu has the type <U"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_invalid_statistics_are_refused(
    tmp_path: Path, pixels: np.ndarray[Any, Any], kind: str
) -> None:
    change, message = INVALID[kind]
    np.savez(tmp_path / "adm.npz", **change(statistics(pixels)))
    with pytest.raises(ValueError, match=f"evaluation.reference: .*adm.npz.*{message}"):
        load(tmp_path / "adm.npz")


def test_covariances_within_rounding_are_accepted(tmp_path: Path) -> None:
    """Singular ones, of fewer images than features, in single precision."""
    x = np.random.default_rng(0).normal(size=(4, 6))
    sigma = np.cov(x, rowvar=False)
    assert np.linalg.eigvalsh(sigma.astype(np.float32)).min() < 1e-6
    for values in (sigma, sigma.astype(np.float32), np.zeros((6, 6))):
        np.savez(tmp_path / "adm.npz", mu=x.mean(0).astype(values.dtype), sigma=values)
        assert load(tmp_path / "adm.npz").covariance.shape == (6, 6)


@pytest.mark.parametrize("name", ["mu", "mu_s"])
def test_another_number_of_features(
    tmp_path: Path, pixels: np.ndarray[Any, Any], name: str
) -> None:
    """Told before any image is generated."""
    sigma = name.replace("mu", "sigma")
    arrays = {**statistics(pixels), name: np.zeros(3), sigma: np.eye(3)}
    np.savez(tmp_path / "adm.npz", **arrays)
    with pytest.raises(ValueError, match=rf"has 3 features \({name}\), and the network squares"):
        load(tmp_path / "adm.npz")


def test_files_that_cannot_be_read(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path = tmp_path / "adm.npz"
    np.savez(path, arr_0=pixels, **statistics(pixels))
    whole = path.read_bytes()
    for data in (b"", b"text", whole[:-30], whole[:1000]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"adm\.npz is damaged or not an \.npz file"):
            load(path)
    flipped = bytearray(whole)
    flipped[5000] ^= 1  # a pixel
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"adm\.npz is damaged.*the checksum of arr_0\.npy"):
        load(path)
    np.savez(path)
    with pytest.raises(ValueError, match="has no mu and sigma"):
        load(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"adm\.npz is a named pipe"):
        load(path)


def test_a_broken_image_is_not_replaced_by_its_neighbour(folder: Path) -> None:
    (folder / "val" / "class0" / "08.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"class0/08\.png is broken \(not an image\): repair or"):
        load(folder)


def cached_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache" / "references").glob("*.npz")
    return path


CACHE_DAMAGE = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[:-200],
    "a flipped bit": lambda data: data[:700] + bytes([data[700] ^ 1]) + data[701:],
}


@pytest.mark.parametrize("kind", CACHE_DAMAGE)
def test_a_damaged_cache_is_computed_again(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    first = load(folder)
    path = cached_file(tmp_path)
    before = path.read_bytes()
    path.write_bytes(CACHE_DAMAGE[kind](before))
    caplog.set_level(logging.WARNING)
    again = load(folder)
    assert f"{path.name} is damaged" in caplog.text
    assert "the reference is computed again" in caplog.text
    assert torch.equal(again.covariance, first.covariance)
    assert path.read_bytes() == before
    assert not path.with_suffix(".part").exists()


def test_the_cache_of_other_images_is_not_used(tmp_path: Path, folder: Path) -> None:
    """Valid statistics under a name that belongs to others."""
    first = load(folder)
    path = cached_file(tmp_path)
    mean = first.mean + 1
    write_reference(Reference(mean, first.covariance, identity={"count": 30}), path)
    assert torch.equal(load(folder).mean, first.mean)


def test_own_files_that_are_damaged(tmp_path: Path, folder: Path) -> None:
    reference = load(folder)
    path = tmp_path / "own.npz"
    write_reference(reference, path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{**arrays, "mu": arrays["mu"] + 1})
    with pytest.raises(ValueError, match=r"own\.npz is damaged: the array mu does not match"):
        load(path)
    # Older versions wrote no checksums.
    arrays["identity"] = np.array(json.dumps(reference.identity))
    np.savez(path, **arrays)
    assert load(path).identity == reference.identity
    np.savez(path, **{**arrays, "points": np.full((5, 6), np.nan, np.float32)})
    with pytest.raises(ValueError, match=r"own\.npz holds no valid .*points contains NaN"):
        load(path)
    np.savez(path, **{**arrays, "points": np.zeros((5, 7), np.float32)})
    with pytest.raises(ValueError, match="do not fit mu"):
        load(path)
    np.savez(path, **{**arrays, "more": np.zeros(3)})
    with pytest.raises(ValueError, match="more is unknown"):
        load(path)


def test_two_commands_compute_a_reference_once(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second waits for the first, and takes what it has written."""
    caplog.set_level(logging.INFO)
    place = tmp_path / "cache" / "references"
    with ThreadPoolExecutor(1) as pool:
        with only_writer(place):
            second = pool.submit(load, folder)
            while "waiting for the reference of another command" not in caplog.text:
                time.sleep(0.01)
            assert not second.done()
        second.result(timeout=30)
    assert cached_file(tmp_path).is_file()
