"""Two folders of pictures compared in one call, and by three other packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import bigr
from bigr.evaluation import fidelity
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.fidelity import FidelityEvaluation
from bigr.metrics.features import Features

SIDE, DIM, CLASSES = 8, 12, 5


def weights(seed: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3 * SIDE * SIDE, width, generator=generator) / 8


def pooled(images: Tensor) -> Tensor:
    return (images.flatten(1).float() / 255 @ weights(0, DIM)).relu()


def logits(images: Tensor) -> Tensor:
    return images.flatten(1).float() / 255 @ weights(1, CLASSES)


class Projection:
    """A network of one layer."""

    prefix, title, identity = "", "projection", "projection-1"

    def to(self, device: torch.device) -> Projection:
        return self

    def __call__(self, images: Tensor) -> Features:
        return Features(pooled(images), logits(images))


@pytest.fixture(autouse=True)
def _network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fidelity, "load_network", lambda *_: Projection())
    fidelity.cached_network.cache_clear()


def pixels(count: int, seed: int, brightness: float = 0.0) -> np.ndarray[Any, Any]:
    """Images with a few directions of variation."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(count, 3, 2, 2)).repeat(4, axis=2).repeat(4, axis=3)
    values = 128 + 40 * values + 15 * random.normal(size=values.shape) + brightness
    return values.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def write(folder: Path, images: np.ndarray[Any, Any]) -> Path:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    samples = write(tmp_path / "samples", pixels(110, 0, brightness=8))
    return samples, write(tmp_path / "real", pixels(140, 1))


def test_against_torch_fidelity(folders: tuple[Path, Path]) -> None:
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class TheirProjection(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("pool", "logits")

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "pool"

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            found = {"pool": pooled(x), "logits": logits(x)}
            return tuple(found[name] for name in self.features_list)

    torch_fidelity.register_feature_extractor("projection", TheirProjection)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(folders[0]),
        input2=str(folders[1]),
        feature_extractor="projection",
        **dict.fromkeys(("isc", "fid", "kid", "prc"), True),
        isc_splits=1,
        kid_subset_size=110,
        cuda=False,
        cache=False,
        verbose=False,
    )
    ours = bigr.score(*folders, device="cpu").figures
    for name, key in {
        "fid": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "is": "inception_score_mean",
        "precision": "precision",
        "recall": "recall",
    }.items():
        assert ours[name] == pytest.approx(theirs[key], rel=1e-5), name
    assert 0.1 < ours["recall"] < ours["precision"] < 1


def test_against_clean_fid_and_prdc(folders: tuple[Path, Path]) -> None:
    clean = pytest.importorskip("cleanfid.fid", reason="the package clean-fid is not installed")
    prdc = pytest.importorskip("prdc", reason="the package prdc is not installed")
    samples, real = (
        clean.get_folder_features(
            str(folder),
            model=pooled,
            custom_fn_resize=lambda image: image,
            device=torch.device("cpu"),
            num_workers=0,
            verbose=False,
        ).astype(np.float64)
        for folder in folders
    )
    ours = bigr.score(*folders, device="cpu").figures
    statistics = [part for x in (samples, real) for part in (x.mean(0), np.cov(x, rowvar=False))]
    m, c, m_other, c_other = statistics
    assert ours["fid"] == pytest.approx(clean.frechet_distance(m, c, m_other, c_other), rel=1e-5)
    theirs = prdc.compute_prdc(real, samples, nearest_k=5)
    assert ours["density"] == pytest.approx(theirs["density"], rel=1e-5)
    assert ours["coverage"] == pytest.approx(theirs["coverage"], rel=1e-5)
    assert 0.1 < ours["coverage"] < 1


@pytest.mark.parametrize("form", ["classes", "npz", "compressed npz", "cropped"])
def test_the_same_images_in_other_forms(
    tmp_path: Path, folders: tuple[Path, Path], form: str
) -> None:
    """Class folders, archives and larger pictures give the figures of the flat folder."""
    expected = bigr.score(*folders, device="cpu").figures
    images, size = pixels(110, 0, brightness=8), None
    samples = tmp_path / "other"
    if form == "classes":
        samples.mkdir()
        write(samples / "cats", images[:50])
        write(samples / "dogs", images[50:])
    elif form == "cropped":
        size = SIDE
        wide = np.pad(images, ((0, 0), (0, 0), (4, 4), (0, 0)), mode="reflect")
        write(samples, wide)
    else:
        samples = samples.with_suffix(".npz")
        (np.savez_compressed if "compressed" in form else np.savez)(samples, arr_0=images)
    found = bigr.score(samples, folders[1], image_size=size, device="cpu")
    assert found.figures == expected


def test_any_batch_size_and_an_interruption_give_the_same_numbers(
    tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bigr.score(*folders, device="cpu", batch_size=64)
    assert bigr.score(*folders, device="cpu", batch_size=7).figures == whole.figures
    evaluation = FidelityEvaluation(
        samples=str(folders[0]), reference=str(folders[1]), chunk_size=20
    )
    undisturbed = evaluation(EvaluationContext(output=tmp_path / "undisturbed"))
    context = EvaluationContext(output=tmp_path / "run")
    calls = 0

    def interrupted(network: Projection, images: Tensor) -> Features:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return Features(pooled(images), logits(images))

    with monkeypatch.context() as patch:
        patch.setattr(Projection, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluation(context)
    assert len(list((tmp_path / "run").glob("features/images_*.npz"))) == 2
    report = evaluation(context)
    assert report is not None
    assert undisturbed is not None
    assert report.figures == undisturbed.figures
    # Other parts are summed in another order, and the square roots of eigenvalues close to zero, of
    # which the distance consists, amplify its rounding.
    assert report.figures == pytest.approx(whole.figures, rel=1e-6)


def test_pictures_that_were_replaced_are_not_mistaken_for_the_old_ones(tmp_path: Path) -> None:
    """Names and numbers of two folders are equal, but not their pictures."""
    samples = write(tmp_path / "samples", pixels(60, 0))
    first = bigr.score(samples, write(tmp_path / "a", pixels(60, 1)), device="cpu")
    second = bigr.score(samples, write(tmp_path / "b", pixels(60, 2, 60.0)), device="cpu")
    assert second.figures["fid"] > 5 * first.figures["fid"]


def test_surprising_figures_are_explained(tmp_path: Path) -> None:
    samples = write(tmp_path / "samples", pixels(12, 0))
    report = bigr.score(samples, samples, device="cpu")
    assert report.figures["kid"] < 0
    assert report.figures["fid"] == pytest.approx(0, abs=1e-6)
    assert [note.split(" is ")[0] for note in report.notes[:1]] == ["The kernel distance"]
    assert "12 images are too few to determine the covariance of 12 features" in report.notes[1]
    enough = bigr.score(write(tmp_path / "many", pixels(60, 3)), samples, device="cpu")
    assert all("too few" not in note for note in enough.notes)


def test_images_that_cannot_be_compared(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    samples, real = folders
    with pytest.raises(ValueError, match=r"samples=nowhere: there is no such file or folder"):
        bigr.score("nowhere", real)
    with pytest.raises(ValueError, match="real images to compare with are needed: add reference="):
        FidelityEvaluation(samples=str(samples))
    Image.new("RGB", (9, 8)).save(samples / "050x.png")
    message = r"050x\.png has 9x8 pixels, but all images must be squares of one size"
    with pytest.raises(ValueError, match=message):
        bigr.score(samples, real)
    (samples / "050x.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"the image 050x\.png is broken"):
        bigr.score(samples, real, device="cpu")
    np.savez(tmp_path / "wide.npz", arr_0=np.zeros((4, 6, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"wide\.npz: the images have 5x6 pixels, not squares"):
        bigr.score(tmp_path / "wide.npz", real)
    np.savez(tmp_path / "one.npz", arr_0=np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"one\.npz has 1 images, but at least 2 are needed"):
        bigr.score(tmp_path / "one.npz", real)
    np.savez(tmp_path / "none.npz", mu=np.zeros(3))
    with pytest.raises(ValueError, match=r"none\.npz contains no images, because it has no array"):
        bigr.score(tmp_path / "none.npz", real)


def test_references_of_another_number_of_images(folders: tuple[Path, Path]) -> None:
    samples, real = map(str, folders)
    context = EvaluationContext()
    evaluation = FidelityEvaluation(samples=samples, reference=real, reference_count=139)
    with pytest.raises(ValueError, match="was made of 140 images, but evaluation"):
        evaluation(context)


def test_intervals_of_a_fixed_set(folders: tuple[Path, Path]) -> None:
    report = bigr.score(*folders, device="cpu", resamples=40)
    intervals = report.metrics["intervals"]
    names = ["fid", "is", "precision", "recall", "density", "coverage", "kid"]
    assert list(intervals) == names
    for name, (low, high) in intervals.items():
        assert low < report.figures[name] < high
        assert (low + high) / 2 == pytest.approx(report.figures[name])
    column = report.columns.index("95% interval")
    cells = {row[0]: row[1 + column] for row in report.rows}
    low, high = intervals["fid"]
    assert cells["FID-110"] == f"{low:.4g} to {high:.4g}"
    low, high = intervals["kid"]
    assert cells["KID-110 (x1000)"] == f"{low * 1000:.4g} to {high * 1000:.4g}"
    assert "intervals" not in bigr.score(*folders, device="cpu").metrics


def test_two_sets_against_each_other(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    """Brighter samples are farther from the real ones than others by more than chance."""
    samples, real = folders
    other = write(tmp_path / "other", pixels(110, 5))
    report = bigr.score(samples, real, against=other, device="cpu", resamples=39)
    found = report.metrics["comparison"]["fid"]
    assert found["is_significant"] is True
    assert found["p"] == 1 / 40
    alone = bigr.score(other, real, device="cpu").figures["fid"]
    assert found["against"] == pytest.approx(alone)
    assert found["difference"] == pytest.approx(report.figures["fid"] - alone)
    assert found["difference"] > 0
    assert report.metrics["comparison"]["kid"]["is_significant"] is True
    row = dict(zip(report.columns, report.rows[0][1:], strict=True))
    assert (row["p"], row["beyond chance"]) == ("0.025", "yes")
    equal = bigr.score(other, real, against=write(tmp_path / "b", pixels(110, 6)), device="cpu")
    assert equal.metrics["comparison"]["fid"]["is_significant"] is False
    assert equal.metrics["comparison"]["fid"]["p"] * 200 == pytest.approx(
        round(equal.metrics["comparison"]["fid"]["p"] * 200)
    )
    few = write(tmp_path / "few", pixels(50, 5))
    with pytest.raises(ValueError, match=r"but count is 110 and 50: set evaluation\.count=50"):
        bigr.score(samples, real, against=few, device="cpu")
    with pytest.raises(ValueError, match="against=… is compared with samples=…, which is missing"):
        FidelityEvaluation(against=str(other), reference=str(real))
    with pytest.raises(ValueError, match=r"evaluation\.repeats needs a generator"):
        FidelityEvaluation(samples=str(samples), reference=str(real), repeats=2)
