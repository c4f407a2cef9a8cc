"""Which settings a generator is sampled with by default."""

from __future__ import annotations

import dataclasses

import pytest

from bigr.checkpoints.errors import CheckpointError
from bigr.inference.model_defaults import default_sampler, saved_sampler
from bigr.models.config import BiGRConfig
from bigr.models.model_settings import ModelSettings
from bigr.presets import load_preset
from bigr.sampling.mask_schedules import CosineMaskSchedule
from bigr.sampling.sampler_config import SamplerConfig
from tests.models import tiny_generator

UNKNOWN = ModelSettings()


@pytest.mark.parametrize(
    ("size", "iterations", "gumbel"), [("l", 20, 0.17), ("xl", 25, 0.25), ("xxl", 25, 0.3)]
)
def test_released_sizes(size: str, iterations: int, gumbel: float) -> None:
    """The paper's settings, whatever the codes are."""
    sizes = load_preset("model", size)
    names = {field.name for field in dataclasses.fields(BiGRConfig)}
    config = BiGRConfig(
        **{
            "code_dim": 24,
            "grid_size": 16,
            "num_classes": 10,
            **{k: v for k, v in sizes.items() if k in names},
        }
    )
    for code_dim in (24, 32):
        found = default_sampler(dataclasses.replace(config, code_dim=code_dim), UNKNOWN)
        assert (found.num_iterations, found.gumbel_temperature) == (iterations, gumbel)


def test_saved_settings_come_first() -> None:
    config = tiny_generator().config
    assert default_sampler(config, UNKNOWN) == SamplerConfig()
    own = SamplerConfig(order="raster", guidance_interval=(0.2, 1.0))
    saved = ModelSettings.from_json(ModelSettings(sampler=saved_sampler(own)).to_json())
    assert default_sampler(config, saved) == own
    wrong = ModelSettings(sampler={"guidance": 3.0})
    with pytest.raises(CheckpointError, match=r"saved with the generator are not valid: .*guidanc"):
        default_sampler(config, wrong)


def test_objects_are_not_saved() -> None:
    assert saved_sampler(SamplerConfig(mask_schedule=CosineMaskSchedule())) is None
