"""What changes from iteration to iteration: tokens left, guidance scale, gumbel temperature.

All of it is a function of the iteration i = 1..n, computed on the host.
"""

from __future__ import annotations

import math

from bigr.sampling.sampler_config import SamplerConfig


def num_masked_after(iteration: int, total: int, config: SamplerConfig) -> int:
    """Tokens of ``total`` that are still masked after ``iteration`` (1..n; 0 gives ``total``).

    Cosine: floor(N cos(pi/2 i/n)); linear: floor(N (1 - i/n)), in integers.
    """
    left = config.num_iterations - iteration
    if config.mask_schedule == "linear":
        return total * left // config.num_iterations
    if left == 0:
        return 0
    return math.floor(total * math.cos(math.pi / 2 * iteration / config.num_iterations))


def guidance_scale_at(iteration: int, config: SamplerConfig) -> float:
    """s, or 1 + (s - 1) i/n with the linear schedule; 1 outside of the guidance interval.

    Iteration i covers the share from (i - 1)/n to i/n; its middle decides.
    """
    first, last = config.guidance_interval
    if not first <= (iteration - 0.5) / config.num_iterations <= last:
        return 1.0
    if config.guidance_schedule == "constant":
        return config.guidance_scale
    return 1.0 + (config.guidance_scale - 1.0) * iteration / config.num_iterations


def gumbel_temperature_at(iteration: int, config: SamplerConfig) -> float:
    """tau, tau i/n (up) or tau (1 - i/n) (down)."""
    progress = iteration / config.num_iterations
    factor = {"constant": 1.0, "up": progress, "down": 1.0 - progress}[config.gumbel_schedule]
    return config.gumbel_temperature * factor
