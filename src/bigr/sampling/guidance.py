"""Guidance schedules: the scale s_i in the guided logits l_uncond + s_i (l_cond - l_uncond).

To add one, derive from :class:`GuidanceSchedule` and set ``sampler.guidance_schedule`` to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


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


GUIDANCE_SCHEDULES = {"constant": ConstantGuidance(), "linear": LinearGuidance()}
