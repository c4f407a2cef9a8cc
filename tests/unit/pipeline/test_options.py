"""The options that all methods which sample have in common."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from bigr import BiGRPipeline, SamplerConfig
from bigr.pipeline.options import SamplingOptions, with_options
from tests.pictures import noise

METHODS = ("generate", "stream", "inpaint", "outpaint", "edit", "repaint", "interpolate", "enrich")
SEEDS = ["seeds", "generator"]


def test_every_setting_of_the_sampler_is_an_option() -> None:
    settings = list(SamplerConfig.__dataclass_fields__)
    assert sorted(SamplingOptions.__annotations__) == sorted([*settings, *SEEDS])


@pytest.mark.parametrize("name", [*METHODS, "__call__"])
def test_signatures_are_complete(name: str) -> None:
    """No argument is hidden behind ``**``, and each one is listed once."""
    parameters = inspect.signature(getattr(BiGRPipeline, name)).parameters
    assert all(part.kind is not part.VAR_KEYWORD for part in parameters.values())
    assert set(SamplingOptions.__annotations__) <= set(parameters)
    assert {part.default for key, part in parameters.items() if key in SEEDS} == {None}


@pytest.mark.parametrize("name", [name for name in vars(BiGRPipeline) if name[0] != "_"])
def test_public_methods_say_what_they_accept(name: str) -> None:
    method = getattr(BiGRPipeline, name)
    if inspect.isroutine(method):
        kinds = {part.kind for part in inspect.signature(method).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds


def test_the_signature_does_not_change_calls() -> None:
    """Parameters of the method's own come first and are not repeated."""

    def paint(canvas: str, *, seeds: int = 3, **options: Any) -> tuple[str, int, dict[str, Any]]:
        return canvas, seeds, options

    shown = with_options(paint)
    assert shown is paint
    assert shown("x", order="raster") == ("x", 3, {"order": "raster"})
    names = list(inspect.signature(shown).parameters)
    assert names[:4] == ["canvas", "seeds", "guidance_scale", "generator"]
    assert len(names) == len(set(names)) == 1 + len(SamplingOptions.__annotations__)


def test_none_is_the_default_of_every_option(pipeline: BiGRPipeline) -> None:
    nothing: Any = dict.fromkeys(SamplingOptions.__annotations__)
    fast = {"num_iterations": 2, "num_denoise_steps": 3}
    expected = pipeline.generate(1, seed=4, **fast)
    assert pipeline.generate(1, seed=4, **{**nothing, **fast}) == expected
    expected = pipeline.inpaint(noise(), [[0, 0, 4, 8]], seed=4, **fast)
    assert pipeline.inpaint(noise(), [[0, 0, 4, 8]], seed=4, **{**nothing, **fast}) == expected
