"""Settings of the sampler: frozen, validated, and free of torch."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from bigr.models.config import check_choice, check_positive_ints, check_range, require

GuidanceSchedule = Literal["constant", "linear"]
GumbelSchedule = Literal["constant", "up", "down"]
MaskSchedule = Literal["cosine", "linear"]
Order = Literal["confidence", "random", "raster"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How tokens are filled in; the defaults are the paper's for BiGR-L's FID.

    Args:
        guidance_scale: classifier-free guidance s; 1 is none (and skips the unconditional
            half), 0 is unconditional.
        num_iterations: transformer calls n.
        gumbel_temperature: noise on the confidence that orders the tokens; 0 is greedy.
        num_denoise_steps: denoiser calls S per transformer call.
        guidance_schedule: ``constant``, or ``linear``: 1 + (s - 1) i/n in iteration i = 1..n.
        gumbel_schedule: ``constant``, ``up`` (times i/n) or ``down`` (times 1 - i/n).
        mask_schedule: tokens left masked after iteration i: ``cosine`` floor(N cos(pi/2 i/n)) or
            ``linear`` floor(N (1 - i/n)).
        temperature: divides the denoiser's logits.
        order: which tokens come first (the paper's Table 3): the most confident, ``random``
            ones, or the next in ``raster`` order.
        deterministic_bits: take [p > 0.5] for a decided token's bits instead of drawing them.
    """

    guidance_scale: float = 2.5
    num_iterations: int = 20
    gumbel_temperature: float = 0.17
    num_denoise_steps: int = 100
    guidance_schedule: GuidanceSchedule = "constant"
    gumbel_schedule: GumbelSchedule = "constant"
    mask_schedule: MaskSchedule = "cosine"
    temperature: float = 1.0
    order: Order = "confidence"
    deterministic_bits: bool = False

    def __post_init__(self) -> None:
        check_positive_ints(self, "num_iterations", "num_denoise_steps")
        check_range(self, "guidance_scale", 0.0)
        check_range(self, "gumbel_temperature", 0.0)
        check_range(self, "temperature", 0.0)
        require(self.temperature > 0, "SamplerConfig.temperature must be above 0.")
        require(
            self.num_denoise_steps >= 2,
            "SamplerConfig.num_denoise_steps must be at least 2 (the first noise level, T, and "
            "the last, 1).",
        )
        check_choice(self, "guidance_schedule", get_args(GuidanceSchedule))
        check_choice(self, "gumbel_schedule", get_args(GumbelSchedule))
        check_choice(self, "mask_schedule", get_args(MaskSchedule))
        check_choice(self, "order", get_args(Order))
