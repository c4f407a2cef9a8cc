"""The page of sampling recipes, and the presets that it describes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch

from bench import recipes
from bigr import Sampler, SamplerConfig, load_generator
from bigr.presets import load_preset


def test_the_page_shows_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(recipes, "write_atomically", lambda _, content: written.append(content))
    recipes.table()
    assert written == [recipes.PAGE.read_bytes()]


@pytest.mark.parametrize("dataset", recipes.COUNTS)
def test_recipes_were_compared_at_equal_arithmetic(dataset: str) -> None:
    results = [json.loads(path.read_text()) for path in (recipes.RESULTS / dataset).glob("*.json")]
    alone: list[dict[str, Any]] = [one for one in results if "recipe" in one]
    exact = [one for one in alone if one["recipe"] == recipes.CONSTANT]
    for one in alone:
        (same,) = [other for other in exact if other["seed"] == one["seed"]]
        assert one["count"] == same["count"] == recipes.COUNTS[dataset]
        assert one["figures"]["gflop"] == pytest.approx(same["figures"]["gflop"], rel=0.05)


@pytest.mark.parametrize("dataset", recipes.COUNTS)
@pytest.mark.parametrize("name", recipes.BUDGETS)
def test_presets_keep_their_budgets(name: str, dataset: str) -> None:
    """They take no more than their share of the arithmetic of the paper's settings."""
    model = load_generator(dataset)
    preset = load_preset("sampler", name)
    guidance = {key for key in preset if key.startswith("guid")}
    is_rising = name == "fast"  # up to the model's own scale; drafts keep all of its guidance
    assert guidance == ({"guidance_schedule", "guidance_interval"} if is_rising else set())
    costs = []
    own = SamplerConfig.preset(dataset)
    for settings in (dataclasses.replace(own, **preset), SamplerConfig()):
        sampler = Sampler(settings)
        sampler.sample(model, torch.arange(4), seeds=range(4))
        costs.append(sampler.flops)
    assert costs[0] <= recipes.BUDGETS[name] * costs[1]


@pytest.mark.parametrize("name", recipes.PRESETS)
def test_presets_are_those_that_were_scored(name: str) -> None:
    preset = load_preset("sampler", name)
    for dataset in recipes.COUNTS:
        paths = list((recipes.RESULTS / dataset).glob(f"preset-{name}-*.json"))
        assert len(paths) == 3
        base = SamplerConfig.preset(dataset)
        for path in paths:
            scored = json.loads(path.read_text())["sampler"]
            expected = dataclasses.replace(base, **preset).to_dict()
            found = {**SamplerConfig().to_dict(), **scored}
            assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
