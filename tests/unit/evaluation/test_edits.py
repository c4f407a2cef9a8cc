"""Edits over a data set: known regions, seams."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from bigr.data.digits import load_digits
from bigr.data.image_arrays import to_tensor
from bigr.evaluation.edits import EditEvaluation, region_mask, seam_contrast
from bigr.evaluation.evaluator import EvaluationContext
from bigr.metrics.digit_classifier import DigitClassifier
from bigr.pipeline import BiGRPipeline, Repainted
from bigr.sampling.sampler_config import SamplerConfig
from tests.models import tiny_autoencoder, tiny_generator

SETTINGS = SamplerConfig(num_iterations=2, num_denoise_steps=3, mask_schedule="linear")


class Sample(NamedTuple):
    image: Tensor
    label: int


def images(count: int) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    return [
        Sample(torch.randint(256, (3, 8, 8), generator=generator, dtype=torch.uint8), i % 3)
        for i in range(count)
    ]


class Data(NamedTuple):
    """A data module, as far as this evaluation is concerned."""

    val_set: list[Sample]
    image_size: int = 8


def context(samples: list[Sample], **sizes: int) -> EvaluationContext:
    return EvaluationContext(
        tiny_generator(**sizes), tiny_autoencoder(), sampler=SETTINGS, data=Data(samples)
    )


def evaluate(count: int = 5, **settings: Any) -> Any:
    evaluation = EditEvaluation(count=count, **settings)
    given = context(images(7))
    evaluation.check(given)
    return evaluation(given)


def test_regions() -> None:
    for region, share in (("center", 0.25), ("left", 0.5), ("bottom", 0.5)):
        assert region_mask(region, 16).float().mean() == share  # type: ignore[arg-type]
    assert region_mask("left", 8)[:, :4].all()
    assert region_mask("top", 8)[:4].all()
    assert region_mask("center", 8)[2:6, 2:6].all()


def test_seam_contrast() -> None:
    """A step of 0.5 along one edge of four; a mask's corner has no pixel across it."""
    image = torch.zeros(2, 3, 8, 8)
    image[1, :, :, 2:] = 0.5  # a step where the mask begins
    mask = region_mask("center", 8)
    assert seam_contrast(image, mask).tolist() == pytest.approx([0.0, 0.5 * 4 / 16])
    assert seam_contrast(image, region_mask("right", 8)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("application", ["inpaint", "outpaint", "edit"])
def test_known_regions_are_kept(application: str) -> None:
    result = evaluate(application=application, batch_size=2)
    assert result.metrics["count"] == 5
    assert result.figures["known_tokens_intact"] == 1.0
    assert result.figures["known_pixels_changed"] == 0.0
    assert result.figures["seam_ratio"] > 0
    grid, columns = result.pictures["edits.png"]
    assert (len(grid), columns) == (20, 4)
    whole = evaluate(application=application, batch_size=5)
    assert whole.figures == pytest.approx(result.figures, rel=1e-9)


def test_a_generator_that_touches_known_tokens_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bigr.sampling.sampler import Sampler

    sample = Sampler.sample

    def broken(self: Sampler, *args: Any, **more: Any) -> Tensor:
        codes = sample(self, *args, **more)
        codes[0, 0] = 1 - codes[0, 0]  # a corner, which is known
        return codes

    monkeypatch.setattr(Sampler, "sample", broken)
    assert evaluate(batch_size=2).figures["known_tokens_intact"] == pytest.approx(2 / 5)


def test_known_psnr_is_that_of_the_pixels() -> None:
    """Edits of the half that isn't looked at don't change it much; of the same images."""
    result = evaluate(region="left", known_bits="likelier")
    assert result.metrics["known_bits"] == "likelier"
    assert evaluate(region="left").figures != result.figures
    autoencoder = tiny_autoencoder()
    originals = torch.stack([one.image for one in images(5)]) / 255
    with torch.inference_mode():
        codes = autoencoder.encode(originals).gt(0.5).float()
        decoded = (autoencoder.decode(codes).clamp(0, 1) * 255).round() / 255
    mse = (decoded - originals)[..., 4:].square().mean().double()
    assert result.figures["known_psnr_reconstructed"] == pytest.approx(
        float(-10 * mse.log10()), rel=1e-5
    )


def test_poisson() -> None:
    assert evaluate(blend="poisson").figures["known_pixels_changed"] == 0.0


@pytest.mark.parametrize(
    "settings", [{"region": "corner"}, {"application": "enrich"}, {"known_bits": "p"}]
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"EditEvaluation\.\w+ must be"):
        EditEvaluation(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"to_class": 1}, "needs evaluation.application=edit"),
        ({"application": "edit", "to_class": 3}, r"to_class=3: it can be 0\.\.2"),
        ({"from_class": -1}, "from_class must be an integer of at least 0 or null, got -1"),
        ({"classifier": "resnet"}, "classifier must be digits or null"),
    ],
)
def test_bad_classes(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(**settings)


def test_images_of_one_class() -> None:
    """Of seven images, 0 1 2 0 1 2 0, the first four are looked at, or all of class 1."""
    assert evaluate(from_class=1).metrics["count"] == 2
    assert evaluate(count=1, from_class=1).metrics["count"] == 1


def test_class_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that knows one code: the digits' originals, read by the classifier itself."""
    digits = load_digits("test", 8)
    held_out = [
        Sample((image * 255).round().byte(), int(label))
        for image, label in zip(digits.images, digits.labels, strict=True)
    ]
    evaluation = EditEvaluation(
        application="edit", region="center", count=30, classifier="digits", batch_size=7
    )
    results: list[Tensor] = []
    repaint = BiGRPipeline.repaint

    def keep(*arguments: Any, **more: Any) -> list[Repainted]:
        found = repaint(*arguments, **more)
        results.extend(to_tensor(variant.picture) for variant in found)
        return found

    monkeypatch.setattr(BiGRPipeline, "repaint", keep)
    found = evaluation(context(held_out, num_classes=10)).figures["class_accuracy"]
    classifier = DigitClassifier(load_digits("train", 8))
    assert found == pytest.approx(
        classifier.accuracy(torch.stack(results), digits.labels[:30]), abs=1e-6
    )
    assert 0 < found < 1
    other = EditEvaluation(
        application="edit", from_class=3, to_class=8, count=10, classifier="digits"
    )
    assert other(context(held_out, num_classes=10)).figures["class_accuracy"] < 0.5
