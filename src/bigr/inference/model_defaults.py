"""The settings with which a generator is sampled if none are given."""

from __future__ import annotations

from typing import Any

from bigr.checkpoints.errors import CheckpointError
from bigr.models.config import BiGRConfig
from bigr.models.model_settings import ModelSettings
from bigr.presets import load_preset
from bigr.sampling.sampler_config import SamplerConfig
from bigr.schema import from_dict

RELEASED_SIZES = ("l", "xl", "xxl")
SIZE = ("dim", "num_layers")


def default_sampler(config: BiGRConfig, settings: ModelSettings) -> SamplerConfig:
    """Return the saved settings of a generator, or else the paper's for a generator of its size.

    Generators of other sizes without saved settings get the defaults of :class:`SamplerConfig`.

    Raises:
        CheckpointError: if the saved settings are not valid in this version.
    """
    if settings.sampler is not None:
        try:
            return from_dict(SamplerConfig, settings.sampler)
        except ValueError as error:
            raise CheckpointError(
                f"The sampler settings that were saved with the generator are not valid: {error} "
                "Give others, such as sampler=paper_l."
            ) from error
    for name in RELEASED_SIZES:
        sizes = load_preset("model", name)
        if all(getattr(config, key) == sizes[key] for key in SIZE):
            return SamplerConfig.preset(f"paper_{name}")
    return SamplerConfig()


def saved_sampler(config: SamplerConfig) -> dict[str, Any] | None:
    """Return sampler settings as they are saved with a generator.

    None is returned if an order or a schedule is an object, which is not saved as plain data, or if
    there is a guide, whose file is not saved with the generator.
    """
    values = config.to_dict()
    if config.guide is not None:
        return None
    return None if any(isinstance(value, dict) for value in values.values()) else values
