"""Classifiers of scikit-learn's digits, one for judging generated digits and one for features.

Both are fitted to the training split in about a second, always with the same result.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import torch
from torch import Tensor

from bigr.data.digits import GREY_LEVELS, LabelledImages, load_digits, to_native
from bigr.metrics.features import Features

SVC_GAMMA = 0.001
HIDDEN_UNITS = 64


class DigitClassifier:
    """Support vector classifier that tells which digit an image shows.

    Args:
        train: images and labels to fit.
    """

    def __init__(self, train: LabelledImages) -> None:
        from sklearn.svm import SVC

        self.classifier: Any = SVC(gamma=SVC_GAMMA)
        self.classifier.fit(to_native(train.images).numpy(), train.labels.numpy())

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Return the share of ``images`` (n, 3, H, W) in [0, 1] classified as ``labels`` (n,)."""
        return float(self.classifier.score(to_native(images).numpy(), labels.numpy()))


class DigitFeatureNetwork:
    """Features of digits: a multilayer perceptron with one hidden layer of 64 units.

    ``pool`` is the hidden layer, ``logits`` are those of the ten digits. See
    :class:`~bigr.metrics.features.FeatureNetwork`.
    """

    prefix = "digits_"
    title = "digits classifier"

    def __init__(self) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        train = load_digits("train", 16)
        classifier = MLPClassifier((HIDDEN_UNITS,), alpha=1e-2, max_iter=60, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(self._pixels(train.images).numpy(), train.labels.numpy())
        self.weights = [torch.from_numpy(part).float() for part in classifier.coefs_]
        self.biases = [torch.from_numpy(part).float() for part in classifier.intercepts_]
        digest = hashlib.sha256()
        for part in [*self.weights, *self.biases]:
            digest.update(part.numpy().tobytes())
        self.identity = digest.hexdigest()

    @staticmethod
    def _pixels(images: Tensor) -> Tensor:
        """Convert images in [0, 1] to (B, 64) in [0, 1] at the native resolution of the digits."""
        return to_native(images).float() / GREY_LEVELS

    def to(self, device: torch.device) -> DigitFeatureNetwork:  # noqa: ARG002
        """Return the network unchanged; it is so small that it always runs on the CPU."""
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Compute the features of uint8 images (B, 3, H, W), on the CPU."""
        pixels = self._pixels(images.cpu().float() / 255)
        pool = (pixels @ self.weights[0] + self.biases[0]).relu()
        return Features(pool, pool @ self.weights[1])
