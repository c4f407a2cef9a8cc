"""The options that all methods of a pipeline have in common: random numbers, and single settings.

They are declared once, in :class:`SamplingOptions`. Type checkers and editors read them from
``Unpack[SamplingOptions]``, ``help`` and :func:`inspect.signature` from the signature that
:func:`with_options` gives a method.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, TypeVar

import torch
from torch import Tensor

from bigr.sampling.guidance import GuidanceSchedule
from bigr.sampling.gumbel import GumbelSchedule
from bigr.sampling.mask_schedules import MaskSchedule
from bigr.sampling.orders import SamplingOrder
from bigr.sampling.sampler_config import OrderName

Method = TypeVar("Method", bound=Callable[..., Any])


class SingleSettings(TypedDict, total=False):
    """Settings of :class:`bigr.SamplerConfig` to replace; None is the same as leaving one out."""

    num_iterations: int | None
    gumbel_temperature: float | None
    num_denoise_steps: int | None
    guidance_schedule: (
        Literal["constant", "linear", "cosine"] | Sequence[float] | GuidanceSchedule | None
    )
    guidance_power: float | None
    gumbel_schedule: Literal["constant", "up", "down"] | Sequence[float] | GumbelSchedule | None
    mask_schedule: Literal["cosine", "linear"] | MaskSchedule | None
    mask_power: float | None
    temperature: float | None
    temperature_schedule: Literal["constant"] | Sequence[float] | GumbelSchedule | None
    order: OrderName | Sequence[OrderName] | SamplingOrder | None
    deterministic_bits: bool | None
    guidance_interval: tuple[float, float] | None
    guidance_levels: tuple[float, float] | None
    denoise_spacing: Literal["even", "quadratic"] | None
    reuse_decided: bool | None
    guide: str | None
    conditional_guide: bool | None
    corrector_share: float | None
    corrector_rounds: int | None
    corrector_interval: tuple[float, float] | None


class SamplingOptions(SingleSettings, total=False):
    """Options of every method that samples; None is the same as leaving one out."""

    guidance_scale: float | None
    """Another one of the single settings; it is a parameter of its own of ``pipeline(…)``."""
    seeds: Sequence[int] | Tensor | None
    """One seed for each image, instead of ``seed``."""
    generator: torch.Generator | Sequence[torch.Generator] | None
    """Instead of ``seed``: one generator, which draws the seeds of all images from 0..2^62 - 1, one
    after the other, or one generator for each image, which draws its seed."""


def with_options(method: Method) -> Method:
    """List all options in the signature of a method that takes ``**options``.

    Options that the method has as parameters of its own are not repeated. Calls are not affected.
    """
    signature = inspect.signature(method)
    own = [part for part in signature.parameters.values() if part.kind is not part.VAR_KEYWORD]
    names = {part.name for part in own}
    types = typing.get_type_hints(SamplingOptions)
    # The seeds and the guidance scale come first.
    ordered = sorted(types, key=SingleSettings.__annotations__.__contains__)
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(name, kind, default=None, annotation=types[name])
        for name in ordered
        if name not in names
    ]
    method.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return method
