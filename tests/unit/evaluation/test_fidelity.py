"""Figures of generated images against a reference: names, counts, tables, files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bigr import BiGRPipeline, SamplerConfig
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.fidelity import FidelityEvaluation, cached_network
from bigr.evaluation.report import Report
from bigr.inference.generate import class_labels
from bigr.metrics.digit_classifier import DigitFeatureNetwork
from bigr.sampling.orders import SamplingOrder
from tests.models import tiny_autoencoder, tiny_generator

SETTINGS = SamplerConfig(num_iterations=2, num_denoise_steps=3)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGR_CACHE", str(tmp_path_factory.getbasetemp() / "bigr_cache"))


def context(output: Path, **sizes: int) -> EvaluationContext:
    models = tiny_generator(**{"num_classes": 10, **sizes}), tiny_autoencoder()
    return EvaluationContext(*models, sampler=SETTINGS, output=output)


def evaluate(output: Path, count: int = 1000, **more: Any) -> Report:
    evaluation = FidelityEvaluation(
        reference="digits", network="digits", count=count, batch_size=250, seed=3, **more
    )
    given = context(output)
    evaluation.check(given)
    report = evaluation(given)
    assert report is not None
    return report


def test_the_axis_of_the_plot_has_no_count(tmp_path: Path) -> None:
    """The curve is over the number of images, so its label must not name one of them."""
    report = evaluate(tmp_path)
    curve = report.curves["frechet_by_count.png"]
    assert list(curve.points) == [125, 250, 500, 1000]
    assert curve.y == "Frechet distance (digits classifier)"
    assert curve.points[1000] == report.figures["digits_frechet"]
    assert report.rows[0][0] == "Frechet distance-1k (digits classifier)"
    assert not (tmp_path / "samples.npz").exists()
    report.cleanup[0]()
    assert not (tmp_path / "features").exists()


def test_the_images_are_those_of_the_pipeline(tmp_path: Path) -> None:
    """Saved pixel for pixel, with the labels that the accuracy is about."""
    report = evaluate(tmp_path, 12, chunk_size=5, save_images=True)
    report.files["samples.npz"](tmp_path / "samples.npz")
    labels = class_labels(12, 10, "balanced", seed=3)
    with np.load(tmp_path / "samples.npz") as file:
        images, saved = file["arr_0"], file["arr_1"]
    assert saved.tolist() == labels.tolist()
    pipeline = BiGRPipeline(*context(tmp_path).models, device="cpu")
    for index in (0, 7, 11):
        picture = pipeline.generate(int(labels[index]), seed=3 + index, sampler=SETTINGS)[0]
        assert np.array_equal(images[index], np.array(picture))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    read = DigitFeatureNetwork()(pixels).logits.argmax(dim=1)
    assert report.figures["digits_accuracy"] == (read == labels).double().mean().item()


@dataclasses.dataclass(frozen=True)
class FirstHalf(SamplingOrder):
    """Tokens of the upper half first."""

    def scores(self, is_masked: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        return (torch.arange(is_masked.shape[1]) < 8).float().expand_as(uniforms)


class SecondHalf(FirstHalf):
    """Tokens of the lower half first."""

    def scores(self, is_masked: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        return 1 - super().scores(is_masked, uniforms)


def test_two_orders_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    """Features of one order are not continued with another one that has the same fields."""
    evaluation = FidelityEvaluation(reference="digits", network="digits", count=4)
    first, second = (
        dataclasses.replace(context(tmp_path), sampler=dataclasses.replace(SETTINGS, order=order))
        for order in (FirstHalf(), SecondHalf())
    )
    report = evaluation(first)
    assert report is not None
    assert report.metrics["sampler"]["order"] == {"class": f"{__name__}.FirstHalf"}
    assert evaluation(first) is not None
    with pytest.raises(ValueError, match="sampler"):
        evaluation(second)


def test_comparison_with_published_figures(tmp_path: Path) -> None:
    report = evaluate(
        tmp_path, 20, published={"fid": 1.0, "is": 2.0}, tolerance={"fid": 1e9}, keep_features=True
    )
    assert report.rows[0][2:] == ("1", "1e+09", "yes")
    assert report.rows[1][2:] == ("2", "", "")
    assert report.rows[2][2:] == ("", "", "")
    assert report.cleanup == []


def test_repetitions_have_other_seeds(tmp_path: Path) -> None:
    """Three evaluations with the seeds 3 to 62, together and one by one."""
    together = evaluate(tmp_path / "together", 20, repeats=3)
    alone = []
    for number in range(3):
        evaluation = FidelityEvaluation(
            reference="digits", network="digits", count=20, seed=3 + 20 * number
        )
        report = evaluation(context(tmp_path / str(number)))
        assert report is not None
        alone.append(report.figures["digits_frechet"])
    assert len(set(alone)) == 3
    found = together.metrics["repeats"]["digits_frechet"]
    assert found["values"] == pytest.approx(alone)
    assert found["minimum"] == pytest.approx(min(alone))
    assert found["mean"] == pytest.approx(np.mean(alone))
    assert found["spread"] == pytest.approx(np.std(alone, ddof=1))
    assert together.figures["digits_frechet"] == found["mean"]
    row = dict(zip(together.columns, together.rows[0][1:], strict=True))
    assert list(row) == ["measured", "minimum", "spread"]
    assert row["spread"] == f"{found['spread']:.4g}"
    for clean in together.cleanup:
        clean()
    assert list((tmp_path / "together").iterdir()) == []


def test_missing_weights_have_an_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached_network.cache_clear()
    with pytest.raises(ValueError, match=r"bigr\.fetch inception.*evaluation=own trains a network"):
        FidelityEvaluation(reference="digits")
    with pytest.raises(ValueError, match=r"to its path\.$"):
        FidelityEvaluation(reference="digits", weights=str(tmp_path / "none.pth"))


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no score fd; choose from fid, sfid"):
        FidelityEvaluation(reference="digits", network="digits", published={"fd": 3.0})
    with pytest.raises(ValueError, match="count must be an integer of at least 2 or null, got 1"):
        FidelityEvaluation(reference="digits", network="digits", count=1)
    with pytest.raises(ValueError, match="needs a generator with 10 classes, but this one has 3"):
        FidelityEvaluation(reference="digits", network="digits").check(
            context(tmp_path, num_classes=3)
        )
