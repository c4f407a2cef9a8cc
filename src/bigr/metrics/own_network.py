"""A small classifier that learns the classes of given images, and supplies features."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr.data.array_files import Arrays
from bigr.metrics.features import Features

SIDE = 32
"""Side in pixels to which images are reduced or enlarged."""
WIDTHS = (16, 32, 64)
GROUPS = 8
BATCH_SIZE = 64
MIN_STEPS, MAX_STEPS, EPOCHS = 60, 600, 20
LEARNING_RATE = 3e-3
NUM_TURNS = 4
"""Number of rotations that are distinguished without classes."""
HELD_OUT = 5
"""One image in this many is held out."""


class OwnNetwork:
    """Convolutional classifier of 32x32 pixels; see :class:`~bigr.metrics.features.FeatureNetwork`.

    ``pool`` are the 128 features below the last layer, ``logits`` are those of the classes. It
    always runs on the CPU, where the same images give the same weights.

    Without classes it learns by how many quarter turns an image was rotated (RotNet, arXiv
    1803.07728), and has no ``logits``.

    Args:
        num_classes: number of classes; None learns rotations.
        seed: seed of the first weights and of the order of the images.
        name: prefix of the names of the scores, followed by an underscore, and part of the title.
    """

    def __init__(self, num_classes: int | None, seed: int = 0, name: str = "own") -> None:
        self.prefix = f"{name}_"
        self.title = f"{name} classifier"
        self.num_classes = num_classes
        self.seed = seed
        self.accuracy = math.nan
        """Share of the held-out images that are classified correctly; NaN before training."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for before, width in zip((3, *WIDTHS), WIDTHS, strict=False):
                layers += [
                    nn.Conv2d(before, width, 3, padding=1),
                    nn.GroupNorm(GROUPS, width),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                ]
            layers += [nn.Flatten(), nn.Linear(WIDTHS[-1] * (SIDE // 8) ** 2, 128), nn.ReLU()]
            self.body = nn.Sequential(*layers)
            self.head = nn.Linear(128, NUM_TURNS if num_classes is None else num_classes)

    def fit(
        self,
        images: Tensor,
        labels: Tensor | None,
        tested: tuple[Tensor, Tensor] | None = None,
        max_steps: int = MAX_STEPS,
    ) -> None:
        """Train on images, and measure the accuracy on others.

        Args:
            images: (n, 3, 32, 32) uint8 from :func:`small_images`.
            labels: (n,) classes; None rotates each image by a random number of quarter turns.
            tested: images and labels for the accuracy. None holds out a fifth of ``images``.
            max_steps: largest number of training steps, of 64 images each. Training on few images
                ends after 20 epochs, but not before 60 steps.

        Raises:
            ValueError: if there are fewer than ten images.
        """
        if len(images) < 2 * HELD_OUT:
            raise ValueError(
                f"the classifier of evaluation.network=own needs at least {2 * HELD_OUT} images to "
                f"learn from, got {len(images)}: add images to the reference, or choose another "
                "evaluation.network."
            )
        # 1. The images to train with, and those to test with.
        generator = torch.Generator().manual_seed(self.seed)
        if tested is not None and labels is not None:
            x, y = images, labels
        else:
            x, y, tested = _divided(images, labels, generator)
        # 2. Training by AdamW, with one cycle of the learning rate.
        steps = min(max(EPOCHS * len(x) // BATCH_SIZE, MIN_STEPS), max_steps)
        parameters = [*self.body.parameters(), *self.head.parameters()]
        optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
        for _ in range(steps):
            chosen = torch.randint(len(x), (BATCH_SIZE,), generator=generator)
            loss = F.cross_entropy(self.head(self.body(_centred(x[chosen]))), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        # 3. Its accuracy.
        with torch.no_grad():
            parts = [self.head(self.body(_centred(part))) for part in tested[0].split(256)]
        self.accuracy = float((torch.cat(parts).argmax(1) == tested[1]).double().mean())

    @property
    def identity(self) -> str:
        """SHA-256 checksum of the weights."""
        digest = hashlib.sha256()
        for array in self.arrays().values():
            digest.update(array.tobytes())
        return digest.hexdigest()

    def arrays(self) -> Arrays:
        """Return the weights and the accuracy by name."""
        parts = {"body": self.body, "head": self.head}
        found = {
            f"{part}.{name}": value.detach().numpy()
            for part, module in parts.items()
            for name, value in module.state_dict().items()
        }
        return {**found, "accuracy": np.array([self.accuracy])}

    def restore(self, arrays: Arrays) -> None:
        """Take the weights and the accuracy from :meth:`arrays` of another network."""
        for part, module in (("body", self.body), ("head", self.head)):
            names = module.state_dict()
            module.load_state_dict({n: torch.from_numpy(arrays[f"{part}.{n}"]) for n in names})
        self.accuracy = float(arrays["accuracy"][0])

    def to(self, device: torch.device) -> OwnNetwork:  # noqa: ARG002
        """Return the network unchanged; it is so small that it always runs on the CPU."""
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Compute the features of uint8 images (B, 3, H, W), on the CPU."""
        pool = self.body(_centred(small_images(images.cpu())))
        return Features(pool, None if self.num_classes is None else self.head(pool))


def small_images(images: Tensor) -> Tensor:
    """Resize uint8 images (B, 3, H, W) to 32x32 pixels, uint8; those of this size are unchanged."""
    x = F.interpolate(
        images.float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
    )
    return x.round().clamp(0, 255).to(torch.uint8)


def _centred(images: Tensor) -> Tensor:
    """Convert uint8 images to floats in [-1, 1]."""
    return images.float() / 127.5 - 1


def _divided(
    images: Tensor, labels: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Hold out a random fifth of the images; without labels, rotate all of them.

    Returns:
        The images and labels to train with, and the pair of those that are held out.
    """
    order = torch.randperm(len(images), generator=generator)
    if labels is None:
        labels = torch.randint(NUM_TURNS, (len(images),), generator=generator)
        pairs = zip(images, labels, strict=True)
        images = torch.stack([image.rot90(int(turns), (1, 2)) for image, turns in pairs])
    images, labels = images[order], labels[order]
    count = len(images) // HELD_OUT
    return images[count:], labels[count:], (images[:count], labels[:count])
