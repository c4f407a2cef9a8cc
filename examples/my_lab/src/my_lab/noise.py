"""A noise schedule. The package imports this module, which therefore does not import torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bigr.models.noise_schedule import NoiseSchedule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CosineSchedule(NoiseSchedule):
    """k_t = cos(pi/2 t/T): bits stay clean for longer than with the linear schedule.

    Args:
        num_steps: the highest noise level T, the model's ``num_diffusion_steps``.
    """

    num_steps: int = 256

    def keep(self, t: Tensor) -> Tensor:
        """Return k_t for noise levels ``t`` in 0..T; exactly 0 at T."""
        return (math.pi / 2 * t.float() / self.num_steps).cos() * (t < self.num_steps)
