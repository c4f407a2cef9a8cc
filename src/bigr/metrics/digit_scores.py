"""Quality of generated digits: accuracy, precision, recall and copies of training images.

Image sets are (n, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bigr.data.digits import NUM_CLASSES, load_digits
from bigr.data.image_arrays import to_uint8
from bigr.metrics.digit_classifier import DigitClassifier
from bigr.metrics.manifold import precision_recall
from bigr.models.autoencoder import BinaryAutoencoder

NUM_NEIGHBOURS = 3
BATCH_SIZE = 256


@torch.inference_mode()
def reconstruct(autoencoder: BinaryAutoencoder, images: Tensor) -> Tensor:
    """Encode images to their most likely bits, decode these, and clamp the result to [0, 1]."""
    device = next(autoencoder.parameters()).device
    parts = []
    for chunk in images.split(BATCH_SIZE):
        codes = autoencoder.quantize(autoencoder.encode(chunk.to(device)), deterministic=True)
        parts.append(autoencoder.decode(codes).clamp(0, 1).cpu())
    return torch.cat(parts)


def pixel_features(images: Tensor) -> Tensor:
    """Return the grey values of images as saved in uint8: (n, H*W) in [0, 255]."""
    return to_uint8(images).float().mean(dim=1).flatten(1)


def share_of_copies(images: Tensor, originals: Tensor) -> float:
    """Return the share of ``images`` that equal one of ``originals`` in every uint8 pixel."""
    known = {picture.numpy().tobytes() for picture in to_uint8(originals)}
    hits = sum(picture.numpy().tobytes() in known for picture in to_uint8(images))
    return hits / len(images)


@dataclass(frozen=True)
class DigitScores:
    """Scores of one set of images, computed by :class:`DigitsReport`."""

    count: int
    accuracy: float
    precision: float
    recall: float
    copies: float


class DigitsReport:
    """Compares sets of digits with the reconstructions of the test split.

    The reference is reconstructed because in pixel space reconstructions and originals hardly
    overlap, and a generator of codes cannot be better than its autoencoder.

    Args:
        autoencoder: the B-AE whose codes are generated.
        image_size: side of the images in pixels.
    """

    def __init__(self, autoencoder: BinaryAutoencoder, image_size: int) -> None:
        self.train = load_digits("train", image_size)
        self.test = load_digits("test", image_size)
        self.classifier = DigitClassifier(self.train)
        self.train_reconstructions = reconstruct(autoencoder, self.train.images)
        self.test_reconstructions = reconstruct(autoencoder, self.test.images)

    def score(self, images: Tensor, labels: Tensor, *, count_copies: bool = True) -> DigitScores:
        """Compute accuracy, pixel-space precision and recall (k = 3), and the share of copies.

        Args:
            images: (n, 3, H, W) in [0, 1].
            labels: (n,) the requested classes.
            count_copies: whether to look for reconstructions of training images.
        """
        manifold = precision_recall(
            pixel_features(images), pixel_features(self.test_reconstructions), NUM_NEIGHBOURS
        )
        copies = share_of_copies(images, self.train_reconstructions) if count_copies else 0.0
        accuracy = self.classifier.accuracy(images, labels)
        return DigitScores(len(images), accuracy, manifold.precision, manifold.recall, copies)

    def training_scores(self, count: int) -> DigitScores:
        """Return the scores of ``count`` random reconstructions of the training split."""
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(self.train.labels), generator=generator)[:count]
        return self.score(
            self.train_reconstructions[chosen], self.train.labels[chosen], count_copies=False
        )

    def reading(self) -> dict[str, float]:
        """Return the accuracy of the classifier on test originals and on their reconstructions."""
        return {
            "originals": self.classifier.accuracy(self.test.images, self.test.labels),
            "reconstructions": self.classifier.accuracy(
                self.test_reconstructions, self.test.labels
            ),
        }


def balanced_labels(count: int) -> Tensor:
    """Return ``count`` sorted labels, with the same number of each class as far as possible."""
    return torch.arange(count) * NUM_CLASSES // count
