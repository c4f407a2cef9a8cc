"""The models that are installed with the package draw what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bigr import BiGRPipeline, SamplerConfig, load_autoencoder, load_generator
from bigr.checkpoints.hub import PACKAGED, packaged_models
from bigr.data.digits import load_digits
from bigr.data.image_arrays import to_pil
from bigr.data.sources.find import find_splits
from bigr.inference.generate import Models, generate_batches
from bigr.metrics.digit_classifier import DigitClassifier
from bigr.metrics.digit_scores import reconstruct
from bigr.models.autoencoder import BinaryAutoencoder
from bigr.models.bigr import BiGR
from bigr.models.codes import grid_to_tokens
from tests.fashion import FASHION, needs_fashion
from tests.processes import python

PER_CLASS = 10
LARGEST = 4e6
"""Bytes of both files of a model."""


def test_digits() -> None:
    """A classifier of real digits reads at least 90% of 100 samples, of which chance reads 10%."""
    assert "digits" in packaged_models()
    pipeline = BiGRPipeline.from_pretrained("digits", device="cpu")
    assert pipeline.class_names == [str(digit) for digit in range(10)]
    assert pipeline.sampler_config == SamplerConfig.preset("digits")
    labels = torch.arange(10).repeat_interleave(PER_CLASS)
    batches = generate_batches(
        pipeline.models, pipeline.sampler, labels, seed=0, batch_size=len(labels)
    )
    images = torch.cat([batch.images for batch in batches])
    assert DigitClassifier(load_digits("train", 16)).accuracy(images, labels) >= 0.9
    # The pipeline samples with these settings and seeds if it is given none.
    first = pipeline.generate(0)[0]
    assert first.tobytes() == to_pil(images[0]).tobytes()


@needs_fashion
def test_fashion() -> None:
    """The class whose mean training image is nearest is the requested one for most samples."""
    pipeline = BiGRPipeline.from_pretrained("fashion", device="cpu")
    train, _ = find_splits(FASHION)
    assert pipeline.class_names == train.classes
    assert pipeline.sampler_config == SamplerConfig.preset("fashion")
    pixels, labels = train.pixels[:5000].reshape(5000, -1), train.labels[:5000]
    means = np.stack([pixels[labels == label].mean(axis=0) for label in range(10)])
    requested = np.arange(10).repeat(4)
    pictures = pipeline.generate(requested.tolist())
    images = np.stack([np.asarray(picture)[..., 0].reshape(-1) for picture in pictures])
    distances = np.square(images[:, None] - means).sum(axis=2)
    # Of real test images, this classifier recognises 68%; chance is 10%.
    assert (distances.argmin(axis=1) == requested).mean() >= 0.5


@pytest.mark.slow
def test_the_recipe_of_digits(tmp_path: Path) -> None:
    """The experiments of the demo have the sizes of the installed model, and soon come near it.

    The generator learns the codes of the installed B-AE, so that the losses can be compared.
    """
    installed = BiGRPipeline.from_pretrained("digits", device="cpu").models
    tokenizer = f"task.autoencoder={PACKAGED / 'digits'}"
    for name, words in (("autoencoder", ()), ("generator", (tokenizer,))):
        result = python(
            *("-m", "bigr.train", f"experiment=digits_{name}", *words),
            *("trainer.max_steps=200", "trainer.val_check_interval=200", "callbacks.ema.decay=0.9"),
            f"hydra.run.dir={tmp_path / name}",
            cwd=tmp_path,
        )
        assert result.returncode == 0, result.stderr
    trained = Models(
        load_generator(tmp_path / "generator"), load_autoencoder(tmp_path / "autoencoder")
    )
    assert trained.generator.config == installed.generator.config
    assert trained.autoencoder.config == installed.autoencoder.config
    digits = load_digits("test", 16)
    reader = DigitClassifier(load_digits("train", 16))

    def read(autoencoder: BinaryAutoencoder) -> float:
        return reader.accuracy(reconstruct(autoencoder, digits.images), digits.labels)

    assert read(installed.autoencoder) >= 0.96
    assert read(trained.autoencoder) >= 0.8
    with torch.no_grad():
        probs = installed.autoencoder.encode(digits.images)
    codes = grid_to_tokens(installed.autoencoder.quantize(probs, deterministic=True))
    untrained = BiGR(installed.generator.config)

    def loss(generator: BiGR) -> float:
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            return float(generator.eval().loss(codes, digits.labels, generator=draws).loss)

    # A twelfth of the steps brings a quarter of the progress at least.
    best, worst = loss(installed.generator), loss(untrained)
    assert best < loss(trained.generator) < worst - (worst - best) / 4


def test_sizes() -> None:
    for name in packaged_models():
        files = list((PACKAGED / name).glob("*.safetensors"))
        assert sum(file.stat().st_size for file in files) < LARGEST
        assert (PACKAGED / name / "README.md").read_text().startswith("---\n")
