"""Linear classifiers on fixed features, one for each learning rate, trained at once.

A BatchNorm without parameters precedes a linear layer (He et al., arXiv 2111.06377, appendix A).
All heads see the same batches. Their losses are added, so that each gets the gradients that it
would get on its own. Shapes: n samples, D features, C classes, G learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from bigr.metrics.features import check_finite
from bigr.schema import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_fields,
)

LARS_COEFFICIENT = 1e-3
BATCH_NORM_EPS = 1e-6
EVAL_BATCH = 8192


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """How the heads are trained.

    Args:
        learning_rates: one head for each; for batches of 256, scaled with the batch size.
        optimizer: ``sgd`` or ``lars`` (You et al., arXiv 1708.03888), with momentum.
        epochs: passes over the features.
        warmup_epochs: epochs of linear warm-up, which a cosine to zero follows.
        batch_size: samples per step; BatchNorm needs two.
        momentum: momentum of either optimizer.
        weight_decay: weight decay, which applies to weights but not to biases.
        seed: seed of the order.
    """

    learning_rates: Sequence[PositiveFloat] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    optimizer: Literal["sgd", "lars"] = "lars"
    epochs: PositiveInt = 90
    warmup_epochs: NonNegativeInt = 10
    batch_size: Annotated[int, Ge(2)] = 16_384
    momentum: NonNegativeFloat = 0.9
    weight_decay: NonNegativeFloat = 0.0
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.learning_rates:
            raise ValueError("probe.head.learning_rates must have at least one number.")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"probe.head.epochs={self.epochs} must be more than "
                f"probe.head.warmup_epochs={self.warmup_epochs}."
            )


@dataclass(frozen=True)
class HeadScores:
    """Accuracies on the validation split, one for each learning rate."""

    top1: list[float]
    top5: list[float]

    @property
    def best(self) -> int:
        """Index of the learning rate with the best top-1 accuracy."""
        return max(range(len(self.top1)), key=self.top1.__getitem__)


class LinearHeads:
    """G linear layers behind one BatchNorm.

    Args:
        dim: D.
        num_classes: C.
        settings: how they are trained.
        device: where the parameters are.
    """

    def __init__(
        self, dim: int, num_classes: int, settings: HeadSettings, device: torch.device
    ) -> None:
        self.settings = settings
        generator = torch.Generator().manual_seed(settings.seed)
        count = len(settings.learning_rates)
        weight = 0.01 * torch.randn(num_classes, dim, generator=generator)
        self.weight = weight.expand(count, -1, -1).clone().to(device).requires_grad_()
        self.bias = torch.zeros(count, 1, num_classes, device=device, requires_grad=True)
        self.mean = torch.zeros(dim, device=device)
        self.variance = torch.ones(dim, device=device)
        self._velocity = [torch.zeros_like(self.weight), torch.zeros_like(self.bias)]
        self._rates = torch.tensor(list(settings.learning_rates), device=device)[:, None, None]

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (G, n, C) of normalised ``features`` (n, D)."""
        return features @ self.weight.transpose(1, 2) + self.bias

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Train on ``features`` (n, D) of any floating type, and ``labels`` (n,).

        Raises:
            ValueError: if a feature is not finite.
        """
        check_finite(features, "the features for training")
        settings, device = self.settings, self.weight.device
        generator = torch.Generator().manual_seed(settings.seed)
        size = min(settings.batch_size, len(labels))
        steps = len(labels) // size
        for epoch in range(settings.epochs):
            order = torch.randperm(len(labels), generator=generator).to(features.device)
            for step in range(steps):
                chosen = order[step * size : (step + 1) * size]
                x = features[chosen].to(device, torch.float32)
                loss = self._loss(self._normalise(x), labels[chosen.to(labels.device)].to(device))
                self._step(loss, self._progress(epoch + step / steps) * size / 256)
        with torch.no_grad():
            # The statistics of all samples, not running averages, do not depend on the order.
            chunks = [chunk.to(device).double() for chunk in features.split(EVAL_BATCH)]
            mean = sum(chunk.sum(dim=0) for chunk in chunks) / len(features)
            squares = sum((chunk - mean).square().sum(dim=0) for chunk in chunks)
            self.mean, self.variance = mean.float(), (squares / len(features)).float()

    def _normalise(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True, eps=BATCH_NORM_EPS)

    def _loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over heads of the mean cross-entropy."""
        logits = self.logits(x)
        repeated = labels.expand(len(logits), -1)
        losses = F.cross_entropy(logits.flatten(0, 1), repeated.flatten(), reduction="none")
        return losses.view(repeated.shape).mean(dim=1).sum()

    def _progress(self, epoch: float) -> float:
        """Return the factor of the learning rate: linear warm-up, then a cosine to zero."""
        warmup, epochs = self.settings.warmup_epochs, self.settings.epochs
        if epoch < warmup:
            return epoch / warmup
        return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))

    def _step(self, loss: Tensor, factor: float) -> None:
        gradients = torch.autograd.grad(loss, [self.weight, self.bias])
        parameters = [self.weight, self.bias]
        with torch.no_grad():
            for parameter, gradient, velocity in zip(
                parameters, gradients, self._velocity, strict=True
            ):
                is_weight = parameter is self.weight
                if is_weight and self.settings.weight_decay:
                    gradient = gradient + self.settings.weight_decay * parameter
                if is_weight and self.settings.optimizer == "lars":
                    gradient = gradient * _trust(parameter, gradient)
                velocity.mul_(self.settings.momentum).add_(gradient)
                parameter.sub_(factor * self._rates * velocity)

    @torch.no_grad()
    def score(self, features: Tensor, labels: Tensor) -> HeadScores:
        """Measure the top-1 and top-5 accuracy of every head.

        Raises:
            ValueError: if a feature is not finite.
        """
        check_finite(features, "the features for validation")
        device = self.weight.device
        scale = (self.variance + BATCH_NORM_EPS).rsqrt()
        most = min(5, self.weight.shape[1])
        hits = torch.zeros(2, len(self.weight), device=device)
        for x, y in zip(features.split(EVAL_BATCH), labels.split(EVAL_BATCH), strict=True):
            normed = (x.to(device, torch.float32) - self.mean) * scale
            found = self.logits(normed).topk(most, dim=-1).indices == y.to(device)[None, :, None]
            hits[0] += found[..., 0].sum(dim=1)
            hits[1] += found.any(dim=-1).sum(dim=1)
        top1, top5 = (hits / len(labels)).tolist()
        return HeadScores(top1, top5)


def _trust(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Return the LARS factor 0.001 |w| / |g| of each head, 1 where either norm is zero."""
    norms = parameter.flatten(1).norm(dim=1), gradient.flatten(1).norm(dim=1)
    both = (norms[0] > 0) & (norms[1] > 0)
    ratio = torch.where(both, LARS_COEFFICIENT * norms[0] / norms[1].clamp_min(1e-30), 1.0)
    return ratio[:, None, None]
