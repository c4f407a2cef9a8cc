"""What a visitor of the web app may ask for, and the ranges of the sliders."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from annotated_types import Ge, Le

from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import PositiveFloat, PositiveInt, check_fields

MAX_SEED = 2**31 - 1
MAX_GUIDANCE = 10.0
MAX_GUMBEL = 3.0
MAX_ROUNDS = 8


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one request, and of the files of visitors.

    Args:
        upload_mb: size of an uploaded file in megabytes.
        visitor_mb: size of all uploaded files of a visitor; older ones are deleted.
        total_mb: size of the files of all visitors.
        megapixels: size of an image.
        pictures: images generated at a time.
        iterations: iterations of the sampler.
    """

    upload_mb: PositiveFloat = 20
    visitor_mb: PositiveFloat = 100
    total_mb: PositiveFloat = 2000
    megapixels: PositiveFloat = 25
    pictures: PositiveInt = 16
    iterations: PositiveInt = 64

    def __post_init__(self) -> None:
        check_fields(self)
        if self.upload_mb > self.visitor_mb:
            raise ValueError(
                f"Limits.visitor_mb={self.visitor_mb:g} must be at least upload_mb="
                f"{self.upload_mb:g}."
            )


@dataclasses.dataclass(frozen=True)
class Knobs:
    """The values of the sliders, the seed, and the preset that has all other settings.

    Args:
        guidance_scale: scale of the guidance, as in :class:`bigr.SamplerConfig`.
        num_iterations: number of iterations.
        gumbel_temperature: noise in the order of the tokens.
        seed: seed of the first picture.
        base: settings that no slider changes; None means those of the model.
    """

    guidance_scale: Annotated[float, Ge(0), Le(MAX_GUIDANCE)]
    num_iterations: PositiveInt
    gumbel_temperature: Annotated[float, Ge(0), Le(MAX_GUMBEL)]
    seed: Annotated[int, Ge(0), Le(MAX_SEED)]
    base: SamplerConfig | None = None

    def __post_init__(self) -> None:
        check_fields(self)
