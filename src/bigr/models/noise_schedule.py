"""Noise schedules of the Bernoulli diffusion, in closed form (BiGR, arXiv 2410.14672).

The noise level t runs from 0 (clean bits) to T (fair coin flips). Between two levels, a bit is kept
with some probability and is otherwise replaced by a fair coin flip. This module imports no torch.

Shapes: M tokens, K bits.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class UnknownScheduleError(ValueError):
    """The class of a schedule has not been imported."""


class NoiseSchedule(ABC):
    """How likely a bit is still clean at each noise level.

    To add a schedule, write a frozen dataclass that derives from this class. Its fields must be
    plain data, because checkpoints store them by name.
    """

    num_steps: int
    """The highest noise level, T."""

    @abstractmethod
    def keep(self, t: Tensor) -> Tensor:
        """Return k_t, the probability that a bit is kept from level 0 to ``t``.

        Args:
            t: integer noise levels in 0..T, any shape.

        Returns:
            float32 of the same shape; 1 at t = 0 and 0 at t = T.
        """

    def between(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Return the probability that a bit is kept from level ``earlier`` to ``later``."""
        return self.keep(later) / self.keep(earlier)

    def levels(self, num_denoise_steps: int, spacing: str = "even") -> list[int]:
        """Return the noise levels that sampling visits, from T down to 1.

        ``even`` gives (1..T)[floor(linspace(0, 1, S) * (T - 1))], reversed. ``quadratic`` uses the
        squares of linspace, so that low noise levels are visited more often; where two of them
        fall on one level, the second moves up. S = T visits every level.

        Raises:
            ValueError: unless 2 <= S <= T.
        """
        if not 2 <= num_denoise_steps <= self.num_steps:
            raise ValueError(
                f"sampler.num_denoise_steps must be between 2 (the levels T and 1) and the model's "
                f"num_diffusion_steps={self.num_steps}, got {num_denoise_steps}."
            )
        if num_denoise_steps == self.num_steps:
            return list(range(self.num_steps, 0, -1))
        step = 1.0 / (num_denoise_steps - 1)
        power = 2 if spacing == "quadratic" else 1
        levels = [1]
        for i in range(1, num_denoise_steps - 1):
            level = 1 + int((i * step) ** power * (self.num_steps - 1))
            levels.append(max(level, levels[-1] + 1))
        return [self.num_steps, *reversed(levels)]


@dataclasses.dataclass(frozen=True)
class LinearSchedule(NoiseSchedule):
    """The paper's schedule: k_t = 1 - t/T.

    One step keeps a bit with probability beta_t = (T - t) / (T - t + 1). The product of the steps
    from t' to t telescopes to (T - t) / (T - t').
    """

    num_steps: int

    def keep(self, t: Tensor) -> Tensor:
        return (self.num_steps - t).float() / self.num_steps

    def between(self, earlier: Tensor, later: Tensor) -> Tensor:
        return (self.num_steps - later).float() / (self.num_steps - earlier)


def schedule_to_data(schedule: NoiseSchedule | Mapping[str, Any] | str) -> dict[str, Any] | str:
    """Return a schedule as plain data for checkpoints: its class and its fields, or its name."""
    if isinstance(schedule, NoiseSchedule):
        fields = dataclasses.asdict(schedule)  # type: ignore[call-overload]
        return {"class": _class_path(type(schedule)), **fields}
    return schedule if isinstance(schedule, str) else dict(schedule)


def schedule_from_data(data: Mapping[str, Any] | str, num_steps: int) -> NoiseSchedule:
    """Return the schedule that ``data``, see :func:`schedule_to_data`, describes.

    Only classes that are imported already are considered: reading a checkpoint runs no code that
    the file names.

    Raises:
        UnknownScheduleError: if there is no such schedule among the imported classes.
        ValueError: if its T is not ``num_steps``.
    """
    if data == "linear":
        return LinearSchedule(num_steps)
    path = data if isinstance(data, str) else str(data.get("class"))
    subclasses = {_class_path(one): one for one in _subclasses(NoiseSchedule)}
    if isinstance(data, str) or path not in subclasses:
        raise UnknownScheduleError(
            f"noise_schedule={path}: it must be linear or an imported subclass of NoiseSchedule; "
            f"import {path.rpartition('.')[0] or 'the package that defines it'} first."
        )
    schedule: NoiseSchedule = subclasses[path](**{k: v for k, v in data.items() if k != "class"})
    if schedule.num_steps != num_steps:
        raise ValueError(
            f"noise_schedule has num_steps={schedule.num_steps}, but num_diffusion_steps is "
            f"{num_steps}: set both to the same number."
        )
    return schedule


def _class_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _subclasses(cls: type[Any]) -> list[type[Any]]:
    found: list[type[Any]] = cls.__subclasses__()
    return found + [one for child in found for one in _subclasses(child)]


def noised_bit_probs(x_0: Tensor, keep: Tensor | float) -> Tensor:
    """Return q(x_t = 1 | x_0) = k_t x_0 + (1 - k_t) / 2 for bits or bit probabilities (M, K).

    ``keep`` is k_t, a number or (M, 1).
    """
    return keep * x_0 + (1.0 - keep) / 2


def posterior_bit_probs(
    x_0_probs: Tensor,
    x_t: Tensor,
    keep_next: Tensor | float,
    keep_between: Tensor | float,
    offset: float = 0.0,
) -> Tensor:
    """Return P(x_{t'} = 1 | x_t) under x_0 ~ Bernoulli(``x_0_probs``), for t' < t.

    Bayes over v in {0, 1}: P(v) is proportional to
    [k_{t'} P0(v) + (1 - k_{t'}) / 2] * [B 1(x_t = v) + (1 - B) / 2], where B is the probability
    that a bit is kept from t' to t.

    Args:
        x_0_probs: (M, K) probabilities that x_0 = 1.
        x_t: (M, K) bits.
        keep_next: k_{t'}, a number or (M, 1).
        keep_between: B, a number or (M, 1).
        offset: added to the sum of both values by which they are divided.

    Returns:
        (M, K) probabilities.
    """
    prior = noised_bit_probs(x_0_probs, keep_next)
    likelihood = noised_bit_probs(x_t, keep_between)
    one = prior * likelihood
    zero = (1.0 - prior) * (1.0 - likelihood)
    total = one + zero
    return one / (total + offset if offset else total)
