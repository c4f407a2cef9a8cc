"""The digits' report: the figures of its images, and pictures made by the pipeline."""

from __future__ import annotations

import pytest
import torch

from bigr import BiGRPipeline, SamplerConfig
from bigr.data.digits import load_digits
from bigr.data.image_arrays import to_float, to_tensor, to_uint8
from bigr.evaluation.digit_evaluation import DigitsEvaluation
from bigr.evaluation.evaluator import EvaluationContext
from bigr.inference.generate import generate
from bigr.metrics.digit_classifier import DigitClassifier
from tests.models import tiny_autoencoder, tiny_generator

SETTINGS = SamplerConfig(num_iterations=2, num_denoise_steps=3)
INPAINTING = SamplerConfig(num_iterations=3, num_denoise_steps=3, guidance_scale=1.0)


def context(num_classes: int = 10) -> EvaluationContext:
    models = tiny_generator(num_classes=num_classes), tiny_autoencoder()
    return EvaluationContext(*models, sampler=SETTINGS)


def test_figures_and_pictures() -> None:
    evaluation = DigitsEvaluation(inpainting_sampler=INPAINTING, count=20, batch_size=8, seed=3)
    given = context()
    evaluation.check(given)
    done: list[int] = []
    report = evaluation(given, done.append)
    assert done == [8, 8, 4]
    assert evaluation.num_images(given) == 20
    # The images are those of the generation loop, two of each class.
    labels = torch.arange(20) // 2
    images = generate(given.models, SETTINGS, labels, seed=3)
    samples, columns = report.pictures["samples.png"]
    assert columns == 2
    assert torch.equal(samples, images)
    accuracy = DigitClassifier(load_digits("train", 8)).accuracy(images, labels)
    assert report.figures["accuracy"] == accuracy
    # The inpainted halves are those that a user of the pipeline gets.
    shown, columns = report.pictures["inpainting.png"]
    assert (len(shown), columns) == (70, 7)
    three = shown[3 * 7 : 4 * 7]
    assert (three[1][..., 4:] == 0.5).all()
    assert torch.equal(three[1][..., :4], three[0][..., :4])
    pipeline = BiGRPipeline(*given.models, device="cpu")
    expected = pipeline.inpaint(
        three[0], [[4, 0, 8, 8]], num_variants=5, seed=3 + 3 * 5, blend="none", sampler=INPAINTING
    )
    for variant, picture in zip(three[2:], expected, strict=True):
        assert torch.equal(to_float(to_uint8(variant)), to_tensor(picture))


def test_impossible() -> None:
    with pytest.raises(ValueError, match="count must be an integer of at least 4, got 3"):
        DigitsEvaluation(inpainting_sampler=INPAINTING, count=3)
    evaluation = DigitsEvaluation(inpainting_sampler=INPAINTING)
    with pytest.raises(ValueError, match="needs a generator with 10 classes, but this one has 3"):
        evaluation.check(context(num_classes=3))
