"""The classifier of the reference: trained once, and used for the figures and the accuracy."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import pytest
import torch

import bigr
from bigr.data.digits import load_digits
from bigr.data.image_arrays import save_picture, to_pil
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.fidelity import FidelityEvaluation
from bigr.evaluation.own_classifier import own_network
from bigr.inference.processes import ALONE, Processes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIGR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    """Two class folders of zeros and ones, and samples of which a fifth is in the wrong folder."""
    digits = load_digits("train", 8)
    for label in (0, 1):
        images = digits.images[digits.labels == label]
        for index in range(50):
            shown = to_pil(images[index])
            save_picture(shown, tmp_path / "real" / f"class{label}" / f"{index}.png")
            wrong = label if index % 5 else 1 - label
            save_picture(shown, tmp_path / "samples" / f"class{wrong}" / f"{label}_{index}.png")
    return tmp_path / "samples", tmp_path / "real"


def test_accuracy_and_names(photos: tuple[Path, Path]) -> None:
    report = bigr.score(*photos, network="own", device="cpu")
    assert report.figures["own_accuracy"] == pytest.approx(0.8, abs=0.03)
    assert report.figures["own_frechet"] < 1e-6  # of the same pictures
    assert "fid" not in " ".join(report.figures)
    assert report.rows[0][0] == "Frechet distance-100 (own classifier)"
    assert report.figures["own_score"] > 1.5


def test_trained_once(
    photos: tuple[Path, Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = own_network(str(photos[1]), 8, split="val", processes=ALONE)
    assert "training a classifier" in caplog.text
    caplog.clear()
    again = own_network(str(photos[1]), 8, split="val", processes=ALONE)
    assert "training a classifier" not in caplog.text
    assert "recognises 100.0% of held-out" in caplog.text
    assert again.identity == first.identity
    # Other processes get it from the first one.
    sent = Processes(rank=1, count=2, broadcast=lambda _: first.arrays())
    (path,) = (cache / "classifiers").glob("*.npz")
    path.write_bytes(path.read_bytes()[:-100])
    assert own_network(str(photos[1]), 8, split="val", processes=sent).identity == first.identity
    # A damaged file is written again.
    repaired = own_network(str(photos[1]), 8, split="val", processes=ALONE)
    assert "the classifier is trained again" in caplog.text
    assert repaired.identity == first.identity


def test_references_without_classes(photos: tuple[Path, Path]) -> None:
    """Equal sets are equal, and digits of another kind are farther away than other ones."""
    _, real = photos
    zeros, ones = real / "class0", real / "class1"
    same, other = (
        bigr.score(samples, zeros, network="own", device="cpu").figures for samples in (zeros, ones)
    )
    assert same["own_frechet"] < 1e-6
    assert other["own_frechet"] > 1
    assert other["own_coverage"] < 0.2
    assert not {"own_accuracy", "own_score"} & other.keys()


def test_other_classes_than_those_of_the_reference(photos: tuple[Path, Path]) -> None:
    samples, real = photos
    save_picture(to_pil(torch.zeros(3, 8, 8)), samples / "class2" / "0.png")
    with pytest.raises(ValueError, match=r"has learned the 2 classes .* but the images have 3"):
        bigr.score(samples, real, network="own", device="cpu")


def test_learned_from_training_images_and_tested_on_the_reference(
    photos: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A fifth of the samples is in the wrong folder, so that the accuracy on them is 80%."""
    samples, real = photos
    caplog.set_level(logging.INFO)
    more = {"split": "val", "processes": ALONE}
    network = own_network(str(samples), 8, training=str(real), name="photos", **more)
    assert network.accuracy == pytest.approx(0.8, abs=0.03)
    assert "recognises 80.0% of held-out images" in caplog.text
    assert network.prefix == "photos_"
    # Flat images have no classes to learn, so the reference is learned from itself.
    flat = own_network(str(real), 8, training=str(samples / "class0"), **more)
    assert flat.accuracy == 1.0
    assert flat.num_classes == 2
    save_picture(to_pil(torch.zeros(3, 8, 8)), samples / "class2" / "0.png")
    with pytest.raises(ValueError, match=r"2 classes of evaluation.training.* the reference has 3"):
        own_network(str(samples), 8, training=str(real), **more)


def test_the_report_names_the_classifier_and_its_accuracy(photos: tuple[Path, Path]) -> None:
    evaluation = FidelityEvaluation(
        samples=str(photos[0]), reference=str(photos[1]), network="own", network_name="photos"
    )
    with tempfile.TemporaryDirectory() as folder:
        report = evaluation(EvaluationContext(output=Path(folder), device_name="cpu"))
    assert report is not None
    assert report.figures["photos_accuracy"] == pytest.approx(0.8, abs=0.03)
    assert report.rows[0][0] == "Frechet distance-100 (photos classifier)"
    assert report.metrics["network"]["accuracy"] == 1.0
    assert "the classifier recognises 100.0% of held-out images." in report.notes[-1]
    with pytest.raises(ValueError, match=r"network_name.* must be a word of letters"):
        FidelityEvaluation(reference="x", network="own", network_name="a b")
