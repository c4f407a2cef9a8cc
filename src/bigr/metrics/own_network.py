"""A small classifier that learns the classes of a user's own images, and supplies features."""

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
"""Rotations that are told apart without classes."""
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
    """

    prefix = "own_"
    title = "own classifier"

    def __init__(self, num_classes: int | None, seed: int = 0) -> None:
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

    def fit(self, images: Tensor, labels: Tensor | None) -> None:
        """Train on 80% of the images, and measure the accuracy on the others.

        Args:
            images: (n, 3, 32, 32) from :func:`small_images`.
            labels: (n,) classes; None rotates each image by a random number of quarter turns.

        Raises:
            ValueError: if there are fewer than ten images.
        """
        if len(images) < 2 * HELD_OUT:
            raise ValueError(
                f"a classifier needs at least {2 * HELD_OUT} images, got {len(images)}."
            )
        # 1. A random split.
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(images), generator=generator)
        if labels is None:
            labels = torch.randint(NUM_TURNS, (len(images),), generator=generator)
            images = torch.stack(
                [
                    image.rot90(int(turns), (1, 2))
                    for image, turns in zip(images, labels, strict=True)
                ]
            )
        images, labels = images[order], labels[order]
        held_out = len(images) // HELD_OUT
        x, y = images[held_out:], labels[held_out:]
        # 2. Training by AdamW, with one cycle of the learning rate.
        steps = min(max(EPOCHS * len(x) // BATCH_SIZE, MIN_STEPS), MAX_STEPS)
        parameters = [*self.body.parameters(), *self.head.parameters()]
        optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
        for _ in range(steps):
            chosen = torch.randint(len(x), (BATCH_SIZE,), generator=generator)
            loss = F.cross_entropy(self.head(self.body(x[chosen])), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        # 3. Its accuracy.
        with torch.no_grad():
            parts = [self.head(self.body(part)).argmax(1) for part in images[:held_out].split(256)]
        self.accuracy = float((torch.cat(parts) == labels[:held_out]).double().mean())

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
        pool = self.body(small_images(images.cpu()))
        return Features(pool, None if self.num_classes is None else self.head(pool))


def small_images(images: Tensor) -> Tensor:
    """Return uint8 images as floats in [-1, 1] of 32x32 pixels."""
    x = images.float() / 127.5 - 1
    return F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
