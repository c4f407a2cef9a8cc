"""Sampling mask schedules: how many tokens are still masked after each iteration.

To add one, derive from :class:`MaskSchedule` and set ``sampler.mask_schedule`` to it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass


class MaskSchedule(ABC):
    """Decreases from N tokens before iteration 1 to none after iteration n."""

    @abstractmethod
    def num_masked(self, iteration: int, num_iterations: int, total: int) -> int:
        """Return how many of ``total`` tokens are masked after ``iteration`` in 1..n."""


@dataclass(frozen=True)
class CosineMaskSchedule(MaskSchedule):
    """floor(N cos(pi/2 (i/n)^p)); with p = 1 the paper's schedule for generation."""

    power: float = 1.0

    def num_masked(self, iteration: int, num_iterations: int, total: int) -> int:
        if iteration == num_iterations:
            return 0
        bend = (iteration / num_iterations) ** (self.power - 1.0)
        return math.floor(total * math.cos(math.pi / 2 * iteration / num_iterations * bend))


@dataclass(frozen=True)
class LinearMaskSchedule(MaskSchedule):
    """floor(N (1 - (i/n)^p)); with p = 1 the paper's schedule for inpainting and enrichment."""

    power: float = 1.0

    def num_masked(self, iteration: int, num_iterations: int, total: int) -> int:
        if self.power != 1.0:
            return math.floor(total * (1.0 - (iteration / num_iterations) ** self.power))
        return total * (num_iterations - iteration) // num_iterations


MASK_SCHEDULES: dict[str, CosineMaskSchedule | LinearMaskSchedule] = {
    "cosine": CosineMaskSchedule(), "linear": LinearMaskSchedule(),
}  # fmt: skip
