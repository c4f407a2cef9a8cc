"""Guidance schedules: the scale s_i in the guided logits l_uncond + s_i (l_cond - l_uncond).

To add one, derive from :class:`GuidanceSchedule` and set ``sampler.guidance_schedule`` to it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from bigr.sampling.interpolation import interpolated


class GuidanceSchedule(ABC):
    """Scale of classifier-free guidance in iterations 1..n."""

    @abstractmethod
    def scale(self, iteration: int, num_iterations: int, guidance_scale: float) -> float:
        """Return the scale of ``iteration``; 1 skips the unconditional prediction."""


@dataclass(frozen=True)
class ConstantGuidance(GuidanceSchedule):
    """The same scale s in all iterations."""

    def scale(self, iteration: int, num_iterations: int, guidance_scale: float) -> float:  # noqa: ARG002
        return guidance_scale


@dataclass(frozen=True)
class LinearGuidance(GuidanceSchedule):
    """A rising scale, 1 + (s - 1) i/n."""

    def scale(self, iteration: int, num_iterations: int, guidance_scale: float) -> float:
        return 1.0 + (guidance_scale - 1.0) * iteration / num_iterations


@dataclass(frozen=True)
class CosineGuidance(GuidanceSchedule):
    """A rising scale, 1 + (s - 1) (1 - cos(pi x^p)) / 2 with x = (i - 1)/n.

    The first iteration is not guided, and a higher power p moves guidance to the last iterations:
    the power-cosine schedule of MDT (arXiv 2303.14389), MaskBit and RAR, whose scales and powers
    have the same meaning here.
    """

    power: float = 1.0

    def scale(self, iteration: int, num_iterations: int, guidance_scale: float) -> float:
        progress = ((iteration - 1) / num_iterations) ** self.power
        return 1.0 + (guidance_scale - 1.0) * (1.0 - math.cos(math.pi * progress)) / 2.0


@dataclass(frozen=True)
class PiecewiseGuidance(GuidanceSchedule):
    """1 + (s - 1) w_i, with weights w interpolated from the first to the last iteration.

    See :func:`~bigr.sampling.interpolation.interpolated`.
    """

    weights: tuple[float, ...]

    def scale(self, iteration: int, num_iterations: int, guidance_scale: float) -> float:
        weight = interpolated(self.weights, iteration, num_iterations)
        return 1.0 + (guidance_scale - 1.0) * weight


@dataclass(frozen=True)
class GuidanceInterval(GuidanceSchedule):
    """Another schedule within a part of the iterations, and no guidance outside of it.

    The middle of iteration i, (i - 1/2)/n, decides (Kynkäänniemi et al., arXiv 2404.07724).
    """

    schedule: GuidanceSchedule
    first: float
    last: float

    def scale(self, iteration: int, num_iterations: int, guidance_scale: float) -> float:
        if not self.first <= (iteration - 0.5) / num_iterations <= self.last:
            return 1.0
        return self.schedule.scale(iteration, num_iterations, guidance_scale)


GUIDANCE_SCHEDULES: dict[str, GuidanceSchedule] = {
    "constant": ConstantGuidance(), "linear": LinearGuidance(), "cosine": CosineGuidance(),
}  # fmt: skip
