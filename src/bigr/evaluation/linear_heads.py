"""Linear classifiers on fixed features, one for each learning rate, trained at once.

Parameter-free BatchNorm and a linear layer (He et al., arXiv 2111.06377, appendix A). The heads see
the same batches; their losses are added, so that each gets the gradients it would get alone.
Shapes: n samples, D features, C classes, G learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LARS_COEFFICIENT = 1e-3
BATCH_NORM_EPS = 1e-6
EVAL_BATCH = 8192

Optimizer = Literal["sgd", "lars"]


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """How the heads are trained.

    Args:
        learning_rates: one head for each; those of a batch of 256, scaled with the batch size.
        optimizer: ``sgd`` or ``lars`` (You et al., arXiv 1708.03888), with momentum.
        epochs: over the features.
        warmup_epochs: of linear warm-up; a cosine to zero follows.
        batch_size: samples per step.
        momentum: of either optimiser.
        weight_decay: on weights, not biases.
        seed: of the order.
    """

    learning_rates: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    optimizer: Optimizer = "lars"
    epochs: int = 90
    warmup_epochs: int = 10
    batch_size: int = 16_384
    momentum: float = 0.9
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        rates = list(self.learning_rates)
        if not rates or any(rate <= 0 for rate in rates):
            raise ValueError(f"head.learning_rates must be positive numbers, got {rates}.")
        if self.optimizer not in ("sgd", "lars"):
            raise ValueError(f"head.optimizer={self.optimizer}: it can be sgd or lars.")
        if self.epochs < 1 or not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"head.epochs={self.epochs} must be at least 1 and more than "
                f"head.warmup_epochs={self.warmup_epochs}."
            )
        if self.batch_size < 2:
            raise ValueError(f"head.batch_size={self.batch_size}: BatchNorm needs at least 2.")


@dataclass(frozen=True)
class HeadScores:
    """Of every learning rate, on the validation split."""

    top1: list[float]
    top5: list[float]

    @property
    def best(self) -> int:
        """Index of the best top-1."""
        return max(range(len(self.top1)), key=self.top1.__getitem__)


class LinearHeads:
    """G linear layers behind one BatchNorm.

    Args:
        dim: D.
        num_classes: C.
        settings: of the training.
        device: where.
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
        """(G, n, C) of normalised ``features`` (n, D)."""
        return features @ self.weight.transpose(1, 2) + self.bias

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Train on ``features`` (n, D), in any floating type, and ``labels`` (n,)."""
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
            # Of all samples rather than running averages: the same in any order.
            chunks = [chunk.to(device).double() for chunk in features.split(EVAL_BATCH)]
            mean = sum(chunk.sum(dim=0) for chunk in chunks) / len(features)
            squares = sum((chunk - mean).square().sum(dim=0) for chunk in chunks)
            self.mean, self.variance = mean.float(), (squares / len(features)).float()

    def _normalise(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True, eps=BATCH_NORM_EPS)

    def _loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Sum over heads of the mean cross-entropy."""
        logits = self.logits(x)
        repeated = labels.expand(len(logits), -1)
        losses = F.cross_entropy(logits.flatten(0, 1), repeated.flatten(), reduction="none")
        return losses.view(repeated.shape).mean(dim=1).sum()

    def _progress(self, epoch: float) -> float:
        """Factor of the learning rate: linear warm-up, then a cosine to zero."""
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
        """Top-1 and top-5 accuracy of every head."""
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
    """LARS: 0.001 |w| / |g| of each head, 1 where either is zero."""
    norms = parameter.flatten(1).norm(dim=1), gradient.flatten(1).norm(dim=1)
    both = (norms[0] > 0) & (norms[1] > 0)
    ratio = torch.where(both, LARS_COEFFICIENT * norms[0] / norms[1].clamp_min(1e-30), 1.0)
    return ratio[:, None, None]
