"""Settings of the sampler: the method and its execution. This module imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from annotated_types import Ge

from bigr.presets import from_preset
from bigr.sampling.guidance import GuidanceSchedule
from bigr.sampling.gumbel import GumbelSchedule
from bigr.sampling.mask_schedules import MaskSchedule
from bigr.sampling.orders import SamplingOrder
from bigr.schema import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, check_fields

Precision = Literal["auto", "float32", "bfloat16", "float8"]
ExecutionMode = Literal["auto", "eager", "compiled"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How tokens are sampled. The defaults are the paper's settings for the FID of BiGR-L.

    The schedules and the order can be given by name or as objects of the classes named below.

    Args:
        guidance_scale: scale s of classifier-free guidance; 1 means none, 0 means unconditional.
        num_iterations: iterations n, each with one pass of the transformer.
        gumbel_temperature: of the noise on the confidence that orders the tokens; 0 is greedy.
        num_denoise_steps: passes S of the denoiser in each iteration.
        guidance_schedule: ``constant``, ``linear``, or a
            :class:`~bigr.sampling.guidance.GuidanceSchedule`.
        gumbel_schedule: ``constant``, ``up``, ``down``, or a
            :class:`~bigr.sampling.gumbel.GumbelSchedule`.
        mask_schedule: ``cosine``, ``linear``, or a
            :class:`~bigr.sampling.mask_schedules.MaskSchedule`.
        temperature: divides the denoiser's logits.
        order: ``confidence``, ``random`` or ``raster`` (Table 3 of the paper), or a
            :class:`~bigr.sampling.orders.SamplingOrder`.
        deterministic_bits: decide bits as [p > 0.5] instead of drawing them.
        guidance_interval: part of the iterations that is guided, see
            :class:`~bigr.sampling.guidance.GuidanceInterval`; (0.2, 1.0) skips the first fifth.
        denoise_spacing: ``even`` or ``quadratic`` spacing of the noise levels, see
            :meth:`bigr.models.noise_schedule.NoiseSchedule.levels`.
        reuse_decided: compute the keys and values of a decided token once more, with its bits, and
            keep them. Like the two settings above, this changes the distribution.
    """

    guidance_scale: NonNegativeFloat = 2.5
    num_iterations: PositiveInt = 20
    gumbel_temperature: NonNegativeFloat = 0.17
    num_denoise_steps: Annotated[int, Ge(2)] = 100
    guidance_schedule: Literal["constant", "linear"] | GuidanceSchedule = "constant"
    gumbel_schedule: Literal["constant", "up", "down"] | GumbelSchedule = "constant"
    mask_schedule: Literal["cosine", "linear"] | MaskSchedule = "cosine"
    temperature: PositiveFloat = 1.0
    order: Literal["confidence", "random", "raster"] | SamplingOrder = "confidence"
    deterministic_bits: bool = False
    guidance_interval: tuple[Fraction, Fraction] = (0.0, 1.0)
    denoise_spacing: Literal["even", "quadratic"] = "even"
    reuse_decided: bool = False

    @classmethod
    def preset(cls, name: str, **changes: Any) -> SamplerConfig:
        """Return the settings that ``sampler=<name>`` stands for on the command line.

        Args:
            name: a file of ``conf/sampler``, such as ``paper_xl``, ``inpaint`` or ``digits``.
            changes: settings that replace those of the preset.
        """
        return from_preset(cls, "sampler", name, changes)

    def __post_init__(self) -> None:
        check_fields(self)
        first, last = self.guidance_interval
        if first > last:
            raise ValueError(
                "SamplerConfig.guidance_interval must be two numbers 0 <= a <= b <= 1, got "
                f"[{first}, {last}]."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data; an object becomes its class and its fields."""
        found = dataclasses.asdict(self)
        for name in ("guidance_schedule", "gumbel_schedule", "mask_schedule", "order"):
            cls = type(getattr(self, name))
            if cls is not str:
                fields = found[name] if isinstance(found[name], dict) else {}
                found[name] = {"class": f"{cls.__module__}.{cls.__qualname__}", **fields}
        return found


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
