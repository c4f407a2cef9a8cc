"""Gumbel noise on the confidence of the tokens, and schedules of its temperature.

To add one, derive from :class:`GumbelSchedule` and set ``sampler.gumbel_schedule`` to it. The
temperature of the bit logits, ``sampler.temperature_schedule``, follows the same schedules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bigr.sampling.interpolation import interpolated

if TYPE_CHECKING:
    from torch import Tensor


class GumbelSchedule(ABC):
    """Temperature of the Gumbel noise in iterations 1..n."""

    @abstractmethod
    def temperature(self, iteration: int, num_iterations: int, gumbel_temperature: float) -> float:
        """Return the temperature of ``iteration``; 0 orders only by confidence."""


@dataclass(frozen=True)
class ConstantGumbel(GumbelSchedule):
    """The same temperature tau in all iterations."""

    def temperature(self, iteration: int, num_iterations: int, gumbel_temperature: float) -> float:  # noqa: ARG002
        return gumbel_temperature


@dataclass(frozen=True)
class RisingGumbel(GumbelSchedule):
    """A rising temperature, tau i/n."""

    def temperature(self, iteration: int, num_iterations: int, gumbel_temperature: float) -> float:
        return gumbel_temperature * (iteration / num_iterations)


@dataclass(frozen=True)
class FallingGumbel(GumbelSchedule):
    """A falling temperature, tau (1 - i/n)."""

    def temperature(self, iteration: int, num_iterations: int, gumbel_temperature: float) -> float:
        return gumbel_temperature * (1.0 - iteration / num_iterations)


@dataclass(frozen=True)
class PiecewiseGumbel(GumbelSchedule):
    """tau w_i, with factors w interpolated from the first to the last iteration.

    See :func:`~bigr.sampling.interpolation.interpolated`.
    """

    factors: tuple[float, ...]

    def temperature(self, iteration: int, num_iterations: int, gumbel_temperature: float) -> float:
        return gumbel_temperature * interpolated(self.factors, iteration, num_iterations)


GUMBEL_SCHEDULES: dict[str, GumbelSchedule] = {
    "constant": ConstantGumbel(), "up": RisingGumbel(), "down": FallingGumbel(),
}  # fmt: skip


def gumbel(uniforms: Tensor) -> Tensor:
    """Return standard Gumbel noise, -log(-log(u)), from uniform numbers in (0, 1)."""
    return -(-uniforms.log()).log()
