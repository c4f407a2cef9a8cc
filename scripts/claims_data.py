"""The data sets of scripts/claims.py and how images are scored on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bigr.data.digits import LabelledImages, load_digits
from bigr.data.image_arrays import to_uint8
from bigr.metrics.digit_classifier import DigitClassifier
from bigr.metrics.digit_scores import reconstruct
from bigr.metrics.feature_networks import load_network
from bigr.metrics.frechet import frechet_distance
from bigr.metrics.manifold import precision_recall
from bigr.models.autoencoder import BinaryAutoencoder


class Scorer:
    """Compares images with the test split, in the features of a small classifier of the data.

    Args:
        train: images of the training split, for the linear probe.
        test: images of the test split.
        network: name of the feature network, see :func:`load_network`.
        accuracy: returns the share of images that a classifier assigns to their labels.
    """

    def __init__(
        self,
        train: LabelledImages,
        test: LabelledImages,
        network: str,
        accuracy: Callable[[Tensor, Tensor], float],
    ) -> None:
        self.train, self.test = train, test
        self.network, self.accuracy = load_network(network), accuracy
        self.features = self.network(to_uint8(test.images)).pool

    def scores(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Return accuracy, Frechet distance, precision and recall of images (n, 3, H, W)."""
        features = self.network(to_uint8(images)).pool
        moments = [(part.mean(dim=0), part.T.cov()) for part in (features, self.features)]
        manifold = precision_recall(features, self.features)
        return {
            "accuracy": self.accuracy(images, labels),
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
        autoencoder: file or folder of the B-AE.
        tokenize: arguments of ``python -m bigr.tokenize`` that encode its images.
        scorer: returns the scorer of its images.
    """

    name: str
    autoencoder: str
    tokenize: tuple[str, ...]
    scorer: Callable[[], Scorer]


def digits_scorer() -> Scorer:
    """Return the scorer of the digits; its classifiers are fitted in about a second."""
    train, test = load_digits("train", 16), load_digits("test", 16)
    return Scorer(train, test, "digits", DigitClassifier(train).accuracy)


DIGITS = str(Path(__file__).parents[1] / "docs" / "claims" / "digits" / "autoencoder.safetensors")
"""The B-AE of all committed results. It was that of the demo when they were computed."""
DATASETS = {
    "digits": ClaimsData(
        "digits", DIGITS, ("experiment=digits", f"autoencoder={DIGITS}"), digits_scorer
    )
}
