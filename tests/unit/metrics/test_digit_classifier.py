"""The two classifiers of digits, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits as load_bunch
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from bigr.data.digits import load_digits
from bigr.data.image_arrays import to_uint8
from bigr.metrics.digit_classifier import DigitClassifier, DigitFeatureNetwork


def native(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of scikit-learn's own table that belong to ``split``."""
    bunch = load_bunch()
    rows = {tuple(row): number for number, row in enumerate(bunch.data.astype(int).tolist())}
    images = load_digits(split, 8).images[:, 0].flatten(1) * 16  # type: ignore[arg-type]
    chosen = [rows[tuple(row)] for row in images.round().int().tolist()]
    return bunch.data[chosen], bunch.target[chosen]


def test_classifier_is_the_support_vector_machine() -> None:
    train, test = load_digits("train", 8), load_digits("test", 8)
    classifier = DigitClassifier(train)
    expected = SVC(gamma=0.001).fit(*native("train")).score(*native("test"))
    assert expected > 0.98
    assert classifier.accuracy(test.images, test.labels) == pytest.approx(expected, abs=1e-9)
    wrong = (test.labels + 1) % 10
    assert classifier.accuracy(test.images, wrong) < 0.02


def test_features_are_the_hidden_layer_of_the_perceptron() -> None:
    network = DigitFeatureNetwork()
    test = load_digits("test", 16)
    features = network(to_uint8(test.images))
    assert features.pool.shape == (360, 64)
    assert features.spatial is None
    assert (features.pool >= 0).all()
    assert (features.pool > 0).any(dim=0).sum() > 32
    assert (features.logits.argmax(dim=1) == test.labels).float().mean() > 0.93
    assert DigitFeatureNetwork().identity == network.identity


def test_logits_lack_the_bias() -> None:
    """Logits plus the bias are scikit-learn's own log probabilities, up to normalisation."""
    network = DigitFeatureNetwork()
    images = load_digits("test", 16).images[:50]
    features = network(to_uint8(images))
    classifier = MLPClassifier((64,), alpha=1e-2, max_iter=60, random_state=0)
    train = load_digits("train", 16)
    pixels = [
        torch.nn.functional.adaptive_avg_pool2d(x[:, :1], 8).flatten(1).numpy()
        for x in (train.images, to_uint8(images).float() / 255)
    ]
    with pytest.warns(match="Maximum iterations"):
        classifier.fit(pixels[0], train.labels.numpy())
    expected = classifier.predict_log_proba(pixels[1])
    actual = (features.logits + network.biases[1]).log_softmax(dim=1)
    np.testing.assert_allclose(actual, expected, atol=2e-2)
