"""Settings of the sampler: the method and its execution. This module imports no torch."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from bigr.presets import from_preset
from bigr.sampling.guidance import GuidanceSchedule
from bigr.sampling.gumbel import GumbelSchedule
from bigr.sampling.mask_schedules import MaskSchedule
from bigr.sampling.orders import SamplingOrder
from bigr.schema import MILLION, NOT_HUGE, Fraction, check_fields

Precision = Literal["auto", "float32", "bfloat16", "float8"]
ExecutionMode = Literal["auto", "eager", "compiled"]
SamplingFactor = Annotated[float, Ge(0), NOT_HUGE]
Weights = Annotated[tuple[SamplingFactor, ...], MinLen(1)]
PositiveFactor = Annotated[float, Gt(0), NOT_HUGE]
OrderName = Literal["confidence", "random", "raster", "halton"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How tokens are sampled. The defaults are the paper's settings for the FID of BiGR-L.

    The schedules and the order can be given by name or as objects of the classes named below.
    Settings that a generator has no use for are ignored: with ``attention=causal``, the order is
    raster, with one iteration for each token; a softmax (``objective=categorical``) has no noise
    levels.

    Args:
        guidance_scale: scale s of classifier-free guidance; 1 means none, 0 means unconditional.
        num_iterations: iterations n, each with one pass of the transformer.
        gumbel_temperature: temperature of the noise on the confidence; 0 is greedy.
        num_denoise_steps: passes S of the denoiser in each iteration.
        guidance_schedule: ``constant``, ``linear``, ``cosine``, a list of weights w for scales
            1 + (s - 1) w (:class:`~bigr.sampling.guidance.PiecewiseGuidance`), or a
            :class:`~bigr.sampling.guidance.GuidanceSchedule`.
        guidance_power: exponent of the cosine schedule, see
            :class:`~bigr.sampling.guidance.CosineGuidance`.
        gumbel_schedule: ``constant``, ``up``, ``down``, a list of factors
            (:class:`~bigr.sampling.gumbel.PiecewiseGumbel`), or a
            :class:`~bigr.sampling.gumbel.GumbelSchedule`.
        mask_schedule: ``cosine``, ``linear``, or a
            :class:`~bigr.sampling.mask_schedules.MaskSchedule`.
        mask_power: exponent p of the two mask schedules that have a name. Above 1, fewer tokens are
            decided in the first iterations.
        temperature: divides the denoiser's logits.
        temperature_schedule: ``constant``, a list of factors of ``temperature``
            (:class:`~bigr.sampling.gumbel.PiecewiseGumbel`), or a
            :class:`~bigr.sampling.gumbel.GumbelSchedule` that is never 0.
        order: ``confidence``, ``random`` or ``raster`` (Table 3 of the paper), ``halton``, a list
            of these names for equal parts of the iterations, or a
            :class:`~bigr.sampling.orders.SamplingOrder`.
        deterministic_bits: decide bits as [p > 0.5] instead of drawing them.
        guidance_interval: part of the iterations that is guided, see
            :class:`~bigr.sampling.guidance.GuidanceInterval`; (0.2, 1.0) skips the first fifth.
        guidance_levels: noise levels t that are guided in each denoising chain, as the range of
            t/T; at all others, the denoiser does not compute the unconditional half.
        denoise_spacing: ``even`` or ``quadratic`` spacing of the noise levels, see
            :meth:`bigr.models.noise_schedule.NoiseSchedule.levels`.
        reuse_decided: compute the keys and values of a decided token once more, with its bits, and
            keep them. Like the two settings above, this changes the distribution.
        guide: a generator whose logits replace those without the class in guidance: a file, the
            folder of a run, or the name of a model; see :mod:`bigr.sampling.guide`.
        conditional_guide: whether the guide sees the class.
        corrector_share: the share of the decided tokens, those with the least confidence, that the
            corrector masks and decides again after an iteration, see
            :mod:`bigr.sampling.corrector`; 0 is no corrector.
        corrector_rounds: how often it does that after one iteration. Each round is another pass of
            the transformer.
        corrector_interval: part of the iterations with a corrector, like ``guidance_interval``.
    """

    guidance_scale: SamplingFactor = 2.5
    num_iterations: Annotated[int, Ge(1), NOT_HUGE] = 20
    gumbel_temperature: SamplingFactor = 0.17
    num_denoise_steps: Annotated[int, Ge(2), NOT_HUGE] = 100
    guidance_schedule: Literal["constant", "linear", "cosine"] | Weights | GuidanceSchedule = (
        "constant"
    )
    guidance_power: PositiveFactor = 1.0
    gumbel_schedule: Literal["constant", "up", "down"] | Weights | GumbelSchedule = "constant"
    mask_schedule: Literal["cosine", "linear"] | MaskSchedule = "cosine"
    mask_power: PositiveFactor = 1.0
    temperature: PositiveFactor = 1.0
    temperature_schedule: (
        Literal["constant"] | Annotated[tuple[PositiveFactor, ...], MinLen(1)] | GumbelSchedule
    ) = "constant"
    order: OrderName | Annotated[tuple[OrderName, ...], MinLen(1)] | SamplingOrder = "confidence"
    deterministic_bits: bool = False
    guidance_interval: tuple[Fraction, Fraction] = (0.0, 1.0)
    guidance_levels: tuple[Fraction, Fraction] = (0.0, 1.0)
    denoise_spacing: Literal["even", "quadratic"] = "even"
    reuse_decided: bool = False
    guide: str | None = None
    conditional_guide: bool = True
    corrector_share: Fraction = 0.0
    corrector_rounds: Annotated[int, Ge(1), NOT_HUGE] = 1
    corrector_interval: tuple[Fraction, Fraction] = (0.0, 1.0)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> SamplerConfig:
        """Return the settings in a file of ``conf/sampler``.

        The presets ``best``, ``fast``, ``draft`` and ``model`` change or keep the settings of a
        model. What they leave to the model has its default value here; to change the settings of
        a model instead, give ``**bigr.presets.load_preset("sampler", "fast")`` to the methods of
        its pipeline.

        Args:
            name: a file of ``conf/sampler``, such as ``paper_xl``, ``inpaint`` or ``digits``.
            changes: settings that replace those of the preset.
        """
        return from_preset(cls, "sampler", name, changes)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("guidance_interval", "guidance_levels", "corrector_interval"):
            first, last = getattr(self, name)
            if first > last:
                raise ValueError(
                    f"SamplerConfig.{name} must be two numbers 0 <= a <= b <= 1, got "
                    f"[{first}, {last}]."
                )
        if self.guidance_power != 1.0 and self.guidance_schedule != "cosine":
            raise ValueError(
                f"SamplerConfig.guidance_power={self.guidance_power} needs "
                "guidance_schedule=cosine; all other schedules need guidance_power=1."
            )
        if self.num_iterations * self.corrector_rounds > MILLION:
            raise ValueError(
                f"SamplerConfig.corrector_rounds={self.corrector_rounds} after each of "
                f"{self.num_iterations} iterations is more than {MILLION:,} rounds: choose fewer."
            )
        if self.mask_power != 1.0 and not isinstance(self.mask_schedule, str):
            raise ValueError(
                f"SamplerConfig.mask_power={self.mask_power} needs mask_schedule=cosine or linear; "
                "a schedule of another class needs mask_power=1."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data; an object becomes its class and its fields."""
        found = dataclasses.asdict(self)
        schedules = [name for name in found if name.endswith("_schedule")]
        for name in (*schedules, "order"):
            value = getattr(self, name)
            if not isinstance(value, str | tuple):
                is_dataclass = dataclasses.is_dataclass(value)
                fields = found[name] if is_dataclass else getattr(value, "__dict__", {})
                fields = json.loads(json.dumps(fields, default=repr))
                cls = type(value)
                found[name] = {"class": f"{cls.__module__}.{cls.__qualname__}", **fields}
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """How the samples are computed: this changes the speed, and the samples only by rounding.

    Args:
        precision: type of the matrix products. ``auto`` is bfloat16 on GPUs that support it, and on
            CPUs that multiply it natively (AVX512-BF16, AMX) for generators of width 256 or more,
            which includes all released ones; it is float32 elsewhere. ``float32`` computes like the
            released code. The posterior, the confidence and the draws are always in float32.
            ``float8`` means bfloat16 with float8 products in the wide layers; it needs a GPU of
            compute capability 8.9 or higher (a CPU emulates it slowly) and changes the
            distribution slightly.
        guide_precision: precision of a guide; None is the same as ``precision``.
        mode: how the chain is run. ``eager`` runs one operation at a time. ``auto`` records a
            denoising step as a CUDA graph on GPUs, checks the recording against the eager step,
            and replays it; on CPUs it is eager. ``compiled`` also fuses the operations of a step
            with ``torch.compile``, on CPUs as well, which takes about a minute at the start.
    """

    precision: Precision = "auto"
    guide_precision: Precision | None = None
    mode: ExecutionMode = "auto"

    def __post_init__(self) -> None:
        check_fields(self)


DEFAULT_EXECUTION = ExecutionConfig()
