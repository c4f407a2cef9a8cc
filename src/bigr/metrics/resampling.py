"""How much figures vary by chance: intervals for one set of images, and a test of two sets.

Shapes: n images of the set or sets, c images of a part, m images of the reference, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bigr.metrics.features import Features
from bigr.metrics.inception_score import SPLIT_SIZE
from bigr.metrics.manifold import squared_distances, squared_radii
from bigr.metrics.statistics import NUM_DENSITY_NEIGHBOURS, NUM_NEIGHBOURS, Reference

MAX_PAIRED = 5000
"""Number of images up to which tables of all pairs of images are kept in memory."""
NORMAL_95 = 1.959964
"""Standard deviations from the mean that enclose 95% of a normal distribution."""
SIGNIFICANCE = 0.05
"""Probability that :attr:`Comparison.is_significant` is true for two sets that do not differ."""


class Comparison(NamedTuple):
    """The difference of a figure between two sets of images."""

    difference: float
    p: float
    """Share of random divisions of all images into two sets with at least this difference."""

    @property
    def is_significant(self) -> bool:
        """Whether equal sets would differ so much in at most 5% of all cases."""
        return self.p <= SIGNIFICANCE


class StandardError(NamedTuple):
    """How much a figure varies by chance."""

    error: float
    """Standard deviation that the figure would have over repetitions."""
    freedom: float
    """Degrees of freedom of that estimate: the number of values behind it, minus one."""


class PartialFrechet:
    """Frechet distances of parts of a set to a reference.

    With C' = R R^T, the trace of the root of C C' is the sum of the singular values of the centred
    features times R, divided by the root of their number minus one. The product is computed once.

    Args:
        features: (n, D) of all images.
        mean: (D,) of the reference.
        covariance: (D, D) of the reference.
    """

    def __init__(self, features: Tensor, mean: Tensor, covariance: Tensor) -> None:
        self.centred = features.double() - mean.to(features.device).double()
        values, vectors = torch.linalg.eigh(covariance.to(features.device).double())
        is_used = values > values[-1] * torch.finfo(torch.float64).eps
        self.rotated = self.centred @ (vectors[:, is_used] * values[is_used].sqrt())
        self.norms = self.centred.square().sum(dim=1)
        self.trace = float(values.clamp_min(0).sum())

    def __call__(self, chosen: Tensor) -> float:
        """Return the distance of the images with the numbers ``chosen`` (c,)."""
        count = len(chosen)
        shift = self.centred[chosen].mean(dim=0).square().sum()
        trace = (self.norms[chosen].sum() - count * shift) / (count - 1)
        part = self.rotated[chosen]
        part = part - part.mean(dim=0)
        gram = part @ part.T if count < part.shape[1] else part.T @ part
        root = torch.linalg.eigvalsh(gram / (count - 1)).clamp_min(0).sqrt().sum()
        return max(0.0, float(shift + trace - 2 * root) + self.trace)


class PartialRecall:
    """Recall of parts of a set.

    Args:
        points: (n, D) features of all images.
        real: (m, D) features of the reference.
    """

    def __init__(self, points: Tensor, real: Tensor) -> None:
        self.between = torch.cat(list(squared_distances(points, points)))
        self.between.fill_diagonal_(-1.0)  # each point is its own nearest one
        self.to_real = torch.cat(list(squared_distances(real, points)))

    def __call__(self, chosen: Tensor) -> float:
        """Return the recall of the images with the numbers ``chosen`` (c,)."""
        nearest = self.between[chosen][:, chosen].kthvalue(NUM_NEIGHBOURS + 1, dim=1).values
        return float((self.to_real[:, chosen] <= nearest).any(dim=1).double().mean())


class PartialKernel:
    """Kernel distances of parts of a set, from all pairs of images instead of 100 subsets.

    Args:
        points: (n, D) features of all images.
        real: (m, D) features of the reference.
    """

    def __init__(self, points: Tensor, real: Tensor) -> None:
        x, y = points.double(), real.double()
        self.within = _kernel(x, x)
        self.across = _kernel(x, y).mean(dim=1)
        self.constant = _mean_of_pairs(_kernel(y, y))

    def __call__(self, chosen: Tensor) -> float:
        """Return the unbiased squared distance of the images with the numbers ``chosen`` (c,)."""
        within = _mean_of_pairs(self.within[chosen][:, chosen])
        return float(within + self.constant - 2 * self.across[chosen].mean())


class PartialScores:
    """The figures of :func:`bigr.metrics.statistics.compare` for parts of a set of images.

    They have the same values, except that the kernel distance comes from all pairs of images.
    Recall and the kernel distance need tables of all pairs, and are omitted for more than
    ``MAX_PAIRED`` images.

    Args:
        features: features of all n images.
        reference: statistics of real images.
        device: device of the computation.
    """

    def __init__(
        self, features: Features, reference: Reference, device: torch.device | str = "cpu"
    ) -> None:
        self.count = len(features.pool)
        pool = features.pool.to(device)
        # 1. Distances of Gaussians.
        self.figures: dict[str, Callable[[Tensor], float]] = {
            "fid": PartialFrechet(pool, reference.mean, reference.covariance)
        }
        spatial, mean, covariance = (
            features.spatial,
            reference.spatial_mean,
            reference.spatial_covariance,
        )
        if spatial is not None and mean is not None and covariance is not None:
            self.figures["sfid"] = PartialFrechet(spatial.to(device), mean, covariance)
        # 2. The Inception Score.
        if features.logits is not None:
            self.probs = features.logits.to(device).double().softmax(dim=1)
            self.figures["is"] = self._score
        # 3. Figures of neighbours.
        if reference.points is None:
            return
        real = reference.points.to(device)
        is_paired = self.count <= MAX_PAIRED
        if len(real) > NUM_NEIGHBOURS:
            self.is_inside = _balls(real, pool, NUM_NEIGHBOURS, closed=True).any(dim=0)
            self.figures["precision"] = self._precision
            if is_paired:
                self.figures["recall"] = PartialRecall(pool, real)
        if len(real) > NUM_DENSITY_NEIGHBOURS:
            self.is_near = _balls(real, pool, NUM_DENSITY_NEIGHBOURS, closed=False)
            self.figures |= {"density": self._density, "coverage": self._coverage}
        if is_paired:
            self.figures["kid"] = PartialKernel(pool, real)

    def __call__(self, chosen: Tensor) -> dict[str, float]:
        """Return the figures of the images with the numbers ``chosen`` (c,), by name."""
        is_small = len(chosen) <= NUM_NEIGHBOURS
        return {
            name: figure(chosen)
            for name, figure in self.figures.items()
            if not (is_small and name in ("precision", "recall"))
        }

    def _score(self, chosen: Tensor) -> float:
        parts = self.probs[chosen].split(SPLIT_SIZE)
        return sum(map(_inception_score, parts)) / len(parts)

    def _precision(self, chosen: Tensor) -> float:
        return float(self.is_inside[chosen].double().mean())

    def _density(self, chosen: Tensor) -> float:
        return float(self.is_near[:, chosen].sum()) / (NUM_DENSITY_NEIGHBOURS * len(chosen))

    def _coverage(self, chosen: Tensor) -> float:
        return float(self.is_near[:, chosen].any(dim=1).double().mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return (x.y / D + 1)^3 for all pairs of rows."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    """Return the mean of a square matrix without its diagonal."""
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))


def _balls(real: Tensor, points: Tensor, k: int, *, closed: bool) -> Tensor:
    """Return for each point of ``real`` which of ``points`` (n, D) lie in its ball: (m, n) bool."""
    radii = squared_radii(real, k)
    rows, start = [], 0
    for distances in squared_distances(real, points):
        radius = radii[start : start + len(distances), None]
        rows.append(distances <= radius if closed else distances < radius)
        start += len(distances)
    return torch.cat(rows)


def _inception_score(probs: Tensor) -> float:
    marginal = probs.mean(dim=0)
    divergence = torch.xlogy(probs, probs).sum(dim=1).mean() - torch.xlogy(marginal, marginal).sum()
    return math.exp(float(divergence))


def standard_errors(scores: PartialScores, resamples: int, seed: int = 0) -> dict[str, float]:
    """Return the standard deviation that each figure has over sets of n images.

    It is that over random halves of the set (a bootstrap by half-samples). Halves contain no image
    twice, unlike samples with replacement, whose copies distort distances and neighbours.

    Args:
        scores: scores of all n images.
        resamples: number of halves.
        seed: seed of the halves.
    """
    generator = torch.Generator().manual_seed(seed)
    half = scores.count // 2
    found = [
        scores(torch.randperm(scores.count, generator=generator)[:half]) for _ in range(resamples)
    ]
    factor = math.sqrt(half / (scores.count - half))  # 1 for an even number of images
    table = {name: [one[name] for one in found] for name in found[0]}
    return {
        name: factor * float(torch.tensor(values, dtype=torch.float64).std())
        for name, values in table.items()
    }


def compare_sets(
    scores: PartialScores, first: int, resamples: int, seed: int = 0
) -> dict[str, Comparison]:
    """Test for each figure whether two sets differ by more than chance.

    This is a permutation test: all images are divided at random into two sets of the same sizes,
    again and again. If both sets come from the same distribution, the probability of a false alarm
    is at most 5%, for any number of images and any figure.

    Args:
        scores: scores of the images of both sets.
        first: number of images of the first set, which come first.
        resamples: number of random divisions.
        seed: seed of the divisions.
    """
    generator = torch.Generator().manual_seed(seed)

    def differences(order: Tensor) -> dict[str, float]:
        one, other = scores(order[:first]), scores(order[first:])
        return {name: one[name] - other[name] for name in one}

    actual = differences(torch.arange(scores.count))
    exceeded = dict.fromkeys(actual, 1)
    for _ in range(resamples):
        found = differences(torch.randperm(scores.count, generator=generator))
        for name, value in found.items():
            exceeded[name] += abs(value) >= abs(actual[name])
    return {
        name: Comparison(value, exceeded[name] / (resamples + 1)) for name, value in actual.items()
    }
