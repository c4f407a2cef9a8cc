"""How good generated digits are, read by a classifier of the real ones.

Shapes: n images of (3, H, W) in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bigr.data.digits import NUM_CLASSES, LabelledImages, load_digits, to_native
from bigr.data.image_arrays import to_uint8
from bigr.metrics.manifold import precision_recall
from bigr.models.autoencoder import BinaryAutoencoder

SVC_GAMMA = 0.001
NUM_NEIGHBOURS = 3
BATCH_SIZE = 256


class DigitReader:
    """Support vector classifier (``gamma=0.001``) fitted to the real training split."""

    def __init__(self, train: LabelledImages) -> None:
        from sklearn.svm import SVC

        self.classifier: Any = SVC(gamma=SVC_GAMMA)
        self.classifier.fit(to_native(train.images).numpy(), train.labels.numpy())

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of ``images`` read as ``labels`` (n,)."""
        return float(self.classifier.score(to_native(images).numpy(), labels.numpy()))


@torch.inference_mode()
def reconstruct(autoencoder: BinaryAutoencoder, images: Tensor) -> Tensor:
    """Images through the likelier bits and back, clamped to [0, 1]."""
    device = next(autoencoder.parameters()).device
    parts = []
    for chunk in images.split(BATCH_SIZE):
        codes = autoencoder.quantize(autoencoder.encode(chunk.to(device)), deterministic=True)
        parts.append(autoencoder.decode(codes).clamp(0, 1).cpu())
    return torch.cat(parts)


def features(images: Tensor) -> Tensor:
    """Grey pixels as they would be saved, (n, H*W) in 0..255."""
    grey = to_uint8(images).float().mean(dim=1)
    return grey.flatten(1)


def share_of_copies(images: Tensor, originals: Tensor) -> float:
    """Share of ``images`` that equal one of ``originals`` in every uint8 pixel."""
    known = {picture.numpy().tobytes() for picture in to_uint8(originals)}
    hits = sum(picture.numpy().tobytes() in known for picture in to_uint8(images))
    return hits / len(images)


@dataclass(frozen=True)
class DigitScores:
    """Figures of one set of images; see :class:`DigitsReport`."""

    count: int
    accuracy: float
    precision: float
    recall: float
    copies: float


class DigitsReport:
    """Scores sets of digits against the *reconstructions* of the held-out ones.

    In pixel space reconstructions and originals hardly overlap, and a generator of codes can't be
    better than its autoencoder.

    Args:
        autoencoder: the B-AE whose codes are generated.
        image_size: side of the images in pixels.
    """

    def __init__(self, autoencoder: BinaryAutoencoder, image_size: int) -> None:
        self.train = load_digits("train", image_size)
        self.test = load_digits("test", image_size)
        self.reader = DigitReader(self.train)
        self.train_reconstructions = reconstruct(autoencoder, self.train.images)
        self.test_reconstructions = reconstruct(autoencoder, self.test.images)

    def score(self, images: Tensor, labels: Tensor, *, count_copies: bool = True) -> DigitScores:
        """Accuracy, k=3 precision and recall in pixel space, and share of copies.

        Args:
            images: (n, 3, H, W) in [0, 1].
            labels: (n,) the classes that were asked for.
            count_copies: look for images equal to a training image's reconstruction.
        """
        manifold = precision_recall(
            features(images), features(self.test_reconstructions), NUM_NEIGHBOURS
        )
        copies = share_of_copies(images, self.train_reconstructions) if count_copies else 0.0
        accuracy = self.reader.accuracy(images, labels)
        return DigitScores(len(images), accuracy, manifold.precision, manifold.recall, copies)

    def training_scores(self, count: int) -> DigitScores:
        """What the training split itself reaches: ``count`` of its reconstructions."""
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randperm(len(self.train.labels), generator=generator)[:count]
        return self.score(
            self.train_reconstructions[chosen], self.train.labels[chosen], count_copies=False
        )

    def reading(self) -> dict[str, float]:
        """Accuracy of the reader on held-out originals and on their reconstructions."""
        return {
            "originals": self.reader.accuracy(self.test.images, self.test.labels),
            "reconstructions": self.reader.accuracy(self.test_reconstructions, self.test.labels),
        }


def balanced_labels(count: int) -> Tensor:
    """``count`` labels, class by class, as many of each as possible."""
    return torch.arange(count) * NUM_CLASSES // count
