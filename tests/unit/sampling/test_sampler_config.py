"""Settings that cannot be are refused in one sentence; objects stand beside names."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from bigr import ExecutionConfig, SamplerConfig
from bigr.sampling.guidance import LinearGuidance
from bigr.sampling.mask_schedules import MaskSchedule
from bigr.sampling.orders import SamplingOrder


@dataclasses.dataclass(frozen=True)
class Keep(MaskSchedule):
    share: float = 0.5

    def num_masked(self, iteration: int, num_iterations: int, total: int) -> int:
        return int(total * self.share) if iteration < num_iterations else 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guidance_scale": -1}, "SamplerConfig.guidance_scale must be a number of at least 0"),
        ({"num_iterations": 0}, "num_iterations must be a positive integer, got 0"),
        ({"guidance_scale": 1e300}, r"guidance_scale=1e\+300: it must be at most 1,000,000\."),
        ({"num_iterations": 10**12}, "num_iterations=1000000000000: it must be at most 1,000,000"),
        ({"num_denoise_steps": 10**12}, "num_denoise_steps=1000000000000: it must be at most"),
        ({"num_denoise_steps": 1}, "num_denoise_steps must be an integer of at least 2, got 1"),
        ({"temperature": 0}, "temperature must be a positive number, got 0"),
        ({"order": "entropy"}, "order must be .*confidence, random, raster.*, got 'entropy'"),
        ({"mask_schedule": 3}, "mask_schedule must be .*cosine or linear|linear.*, got 3"),
        ({"gumbel_temperature": float("nan")}, "gumbel_temperature must be .* got nan"),
        ({"reuse_decided": 1}, "reuse_decided must be true or false, got 1"),
        ({"guidance_interval": (0.5, 0.2)}, "two numbers 0 <= a <= b <= 1, got .0.5, 0.2"),
        ({"guidance_interval": (-0.1, 1.0)}, "guidance_interval must be a list of 2 values"),
        ({"guidance_interval": (0.0, 1.2)}, "guidance_interval must be a list of 2 values"),
        ({"guidance_levels": (0.5, 0.2)}, "guidance_levels must be two numbers 0 <= a <= b <= 1"),
        ({"guidance_schedule": ()}, "guidance_schedule must be .*cosine, a non-empty list"),
        ({"guidance_schedule": (1.0, -1.0)}, "each value is a number of at least 0"),
        ({"mask_power": 2.0, "mask_schedule": Keep()}, "mask_power=2.0 needs mask_schedule=cosine"),
        ({"temperature_schedule": (1.0, 0.0)}, "each value is a positive number"),
        (
            {"order": ("random", "spiral")},
            "each value is one of confidence, random, raster, halton",
        ),
        (
            {"corrector_rounds": 50_001},
            "corrector_rounds=50001 after each of 20 iterations is",
        ),
        ({"guidance_power": 2.0}, "guidance_power=2.0 needs guidance_schedule=cosine"),
        ({"guidance_interval": (0.1,)}, "guidance_interval must be a list of 2 values"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "float4"}, "precision must be one of auto, float32, bfloat16, float8"),
        ({"mode": "fast"}, "mode must be one of auto, eager, compiled"),
    ],
)
def test_impossible_execution_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"ExecutionConfig.{message}, got"):
        ExecutionConfig(**change)


def test_objects_in_place_of_names() -> None:
    """They are kept as they are, compared by value, and become plain data for files."""
    config = SamplerConfig(mask_schedule=Keep(0.25), guidance_schedule=LinearGuidance())
    assert config == SamplerConfig(mask_schedule=Keep(0.25), guidance_schedule=LinearGuidance())
    assert config != SamplerConfig(mask_schedule=Keep(), guidance_schedule=LinearGuidance())
    data = json.loads(json.dumps(config.to_dict()))
    assert data["mask_schedule"] == {"class": f"{__name__}.Keep", "share": 0.25}
    assert data["guidance_schedule"] == {"class": "bigr.sampling.guidance.LinearGuidance"}
    assert data["order"] == "confidence"


def test_plain_data_of_names_rebuilds_the_settings() -> None:
    config = SamplerConfig(
        order=("raster", "halton"), guidance_interval=(0.2, 0.9), guidance_schedule=(0.0, 1.0, 0.5)
    )
    assert SamplerConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, bigr.sampling.sampler_config as s; s.SamplerConfig(order='raster'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_orders_that_are_no_dataclasses_are_told_apart() -> None:
    """Whatever they hold becomes plain data."""

    class Steps(SamplingOrder):
        def __init__(self, step: int) -> None:
            self.step = step
            self.range = range(step)

        def scores(self, is_masked: Any, uniforms: Any) -> Any:
            return uniforms

    found = [SamplerConfig(order=Steps(step)).to_dict()["order"] for step in (1, 2)]
    assert [(order["step"], order["range"]) for order in found] == [
        (1, "range(0, 1)"),
        (2, "range(0, 2)"),
    ]
    assert found[0]["class"].endswith("Steps")
