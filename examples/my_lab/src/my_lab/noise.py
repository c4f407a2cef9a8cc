"""A noise schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bigr.models.noise_schedule import NoiseSchedule


@dataclass(frozen=True)
class CosineSchedule(NoiseSchedule):
    """k_t = cos(pi/2 t/T): bits stay clean for longer than with the linear schedule.

    Args:
        num_steps: the highest noise level T, the model's ``num_diffusion_steps``.
    """

    num_steps: int = 256

    def keep(self, t: Tensor) -> Tensor:
        """Return k_t for noise levels ``t`` in 0..T."""
        share = torch.cos(math.pi / 2 * t.float() / self.num_steps)
        return torch.where(t == self.num_steps, 0.0, share)
