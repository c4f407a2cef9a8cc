"""The data sets of scripts/claims.py and how images are scored on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bigr.data.digits import LabelledImages, load_digits
from bigr.data.image_arrays import to_float, to_uint8
from bigr.evaluation.own_classifier import own_network
from bigr.evaluation.stored_images import find_images
from bigr.inference.processes import ALONE
from bigr.metrics.digit_classifier import DigitClassifier
from bigr.metrics.digit_scores import reconstruct
from bigr.metrics.feature_networks import load_network
from bigr.metrics.features import FeatureNetwork
from bigr.metrics.frechet import frechet_distance
from bigr.metrics.manifold import precision_recall
from bigr.models.autoencoder import BinaryAutoencoder

CHUNK = 500
"""Images whose features are computed at a time."""


class Scorer:
    """Compares images with the test split, in the features of a small classifier of the data.

    Args:
        train: images of the training split, for the linear probe.
        test: images of the test split.
        network: computes the features, see :func:`bigr.metrics.feature_networks.load_network`.
        accuracy: returns the share of images that a classifier assigns to their labels. Without
            it, the network itself is this classifier.
    """

    def __init__(
        self,
        train: LabelledImages,
        test: LabelledImages,
        network: FeatureNetwork,
        accuracy: Callable[[Tensor, Tensor], float] | None = None,
    ) -> None:
        self.train, self.test = train, test
        self.network, self.accuracy = network, accuracy
        self.features, _ = self._features(test.images)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the features (n, D) of images, and the logits (n, C) of a classifier."""
        found = [self.network(to_uint8(part)) for part in images.split(CHUNK)]
        logits = [part.logits for part in found if part.logits is not None]
        return torch.cat([part.pool for part in found]), torch.cat(logits) if logits else None

    def scores(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Return accuracy, Frechet distance, precision and recall of images (n, 3, H, W)."""
        features, logits = self._features(images)
        moments = [(part.mean(dim=0), part.T.cov()) for part in (features, self.features)]
        manifold = precision_recall(features, self.features)
        if self.accuracy is not None:
            accuracy = self.accuracy(images, labels)
        elif logits is not None:
            accuracy = float((logits.argmax(dim=1) == labels).double().mean())
        else:
            raise ValueError(f"{self.network.title} does not classify: pass accuracy=.")
        return {
            "accuracy": accuracy,
            "frechet": frechet_distance(*moments[0], *moments[1]),
            "precision": manifold.precision,
            "recall": manifold.recall,
        }

    def reconstructions(self, autoencoder: BinaryAutoencoder) -> Tensor:
        """Return the test images as the B-AE reconstructs them."""
        return reconstruct(autoencoder, self.test.images)


@dataclass(frozen=True)
class ClaimsData:
    """A data set with a trained B-AE.

    Args:
        name: of the data set.
        autoencoder: file or folder of the B-AE, or name of an installed model.
        tokenize: arguments of ``python -m bigr.tokenize`` that encode its images.
        scorer: returns the scorer of its images.
        guidance: scales with which every row is sampled.
    """

    name: str
    autoencoder: str
    tokenize: tuple[str, ...]
    scorer: Callable[[], Scorer]
    guidance: tuple[float, ...]


def digits_scorer() -> Scorer:
    """Return the scorer of the digits; its classifiers are fitted in about a second."""
    train, test = load_digits("train", 16), load_digits("test", 16)
    return Scorer(train, test, load_network("digits"), DigitClassifier(train).accuracy)


FASHION = "/usr/share/datasets/fashion-mnist"
FASHION_SIZE, NETWORK_STEPS = 32, 6000
NUM_PROBED = 10_000
"""Training images of clothes that the linear probe learns from."""


def fashion_scorer() -> Scorer:
    """Return the scorer of clothes, whose classifier is that of ``evaluation=fashion``."""
    splits = []
    for split in ("train", "val"):
        found = find_images(FASHION, "data.root", image_size=FASHION_SIZE, split=split)
        labels = found.labels()
        assert labels is not None
        images = to_float(found.batch(range(min(len(found), NUM_PROBED))))
        splits.append(LabelledImages(images, labels[: len(images)]))
    network = own_network(
        FASHION,
        FASHION_SIZE,
        split="val",
        processes=ALONE,
        training=FASHION,
        name="fashion",
        max_steps=NETWORK_STEPS,
    )
    return Scorer(splits[0], splits[1], network)


DIGITS = str(Path(__file__).parents[1] / "docs" / "claims" / "digits" / "autoencoder.safetensors")
"""The B-AE of all committed results. It was that of the demo when they were computed."""
DATASETS = {
    "digits": ClaimsData(
        "digits",
        DIGITS,
        ("experiment=digits", f"autoencoder={DIGITS}"),
        digits_scorer,
        guidance=(1.0, 1.5),
    ),
    "fashion": ClaimsData(
        "fashion",
        "fashion",
        ("experiment=fashion", "pretrained=fashion", "deterministic=false"),
        fashion_scorer,
        guidance=(1.0, 1.5, 2.5),
    ),
}
