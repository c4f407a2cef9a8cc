"""Settings of the sampler: frozen, validated, and free of torch."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from bigr.models.config import check_choice, check_positive_ints, check_range, require
from bigr.schema import check_fields

GuidanceSchedule = Literal["constant", "linear"]
GumbelSchedule = Literal["constant", "up", "down"]
MaskSchedule = Literal["cosine", "linear"]
Order = Literal["confidence", "random", "raster"]
DenoiseSpacing = Literal["even", "quadratic"]
Precision = Literal["auto", "float32", "bfloat16", "float8"]
ExecutionMode = Literal["auto", "eager", "compiled"]


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
        guidance_interval: iterations with guidance, as shares of them: (0.2, 1.0) leaves it out in
            the first fifth (Kynkaanniemi et al., arXiv 2404.07724). Another distribution.
        denoise_spacing: of the noise levels that are visited: ``even``, or ``quadratic``, which
            visits low noise more often. Another distribution where S < T.
        reuse_decided: the transformer computes a decided token once more, with its bits, and then
            keeps its keys and values. Another distribution.
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
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    denoise_spacing: DenoiseSpacing = "even"
    reuse_decided: bool = False

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
        check_choice(self, "denoise_spacing", get_args(DenoiseSpacing))
        interval = self.guidance_interval
        require(
            len(interval) == 2 and 0 <= interval[0] <= interval[1] <= 1,
            "SamplerConfig.guidance_interval must be two numbers 0 <= a <= b <= 1, got "
            f"{list(interval)}.",
        )
        object.__setattr__(self, "guidance_interval", tuple(map(float, interval)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How the samples are computed; it changes their speed, and nothing else but rounding.

    Args:
        precision: of the matrix products. ``auto`` is bfloat16 on GPUs that support it and float32
            elsewhere. The posterior, the confidence and the draws are always in float32.
            ``float8`` means bfloat16 with float8 products in the wide layers; it needs a GPU of
            compute capability 8.9 or higher (a CPU emulates it slowly) and changes the
            distribution slightly.
        mode: of the denoising chain. ``eager`` runs one operation at a time. ``auto`` records a
            denoising step as a CUDA graph on GPUs, checks the recording against the eager step,
            and replays it; on CPUs it is eager. ``compiled`` also fuses the operations of a step
            with ``torch.compile``, on CPUs as well, which takes about a minute at the start.
    """

    precision: Precision = "auto"
    mode: ExecutionMode = "auto"

    def __post_init__(self) -> None:
        check_fields(self)


DEFAULT_EXECUTION = ExecutionConfig()
