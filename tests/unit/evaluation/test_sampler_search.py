"""The search finds the best of a known function of the settings, and can be interrupted."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from bigr import SamplerConfig
from bigr.data.sealed_json import read_sealed, seal
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.report import Report
from bigr.evaluation.sampler_search import SamplerSearch
from bigr.evaluation.search_space import with_settings
from bigr.inference.processes import Processes
from tests.models import tiny_autoencoder, tiny_generator

SPACE: dict[str, Any] = {
    "guidance_scale": {"low": 0.0, "high": 8.0},
    "num_iterations": {"low": 1, "high": 6},
    "order": ["random", "confidence"],
    "corrector_interval": [[0.0, 0.5], [0.5, 1.0]],
}
BUDGETS = {"best": 1.0, "draft": 0.05}


@dataclasses.dataclass(kw_only=True)
class Formula:
    """An evaluation that needs no images: a scale of 3, many iterations and one order are best."""

    calls: ClassVar[list[tuple[SamplerConfig, int, int]]] = []
    count: int = 40
    seed: int = 0

    def check(self, context: EvaluationContext) -> None:
        assert context.generator is not None

    def __call__(self, context: EvaluationContext, _: Any) -> Report:
        sampler = context.sampler
        self.calls.append((sampler, self.count, self.seed))
        score = (sampler.guidance_scale - 3.0) ** 2 + 4.0 / sampler.num_iterations
        score += (sampler.order != "random") + (1.0 if self.count < 40 else 0.0)
        return Report({}, figures={"fid": score + 1e-3 * math.sin(self.seed), "is": -score})


@pytest.fixture
def context(tmp_path: Path) -> EvaluationContext:
    Formula.calls.clear()
    sampler = SamplerConfig(num_denoise_steps=4, num_iterations=6)
    return EvaluationContext(
        tiny_generator(), tiny_autoencoder(), sampler=sampler, output=tmp_path, title="tiny"
    )


def search(**changes: Any) -> SamplerSearch:
    settings: dict[str, Any] = {
        "quality": Formula(), "metric": "fid", "space": SPACE, "trials": 25, "budgets": BUDGETS,
        "confirm_count": 100, "confirm_repeats": 2,
    }  # fmt: skip
    return SamplerSearch(**{**settings, **changes})


def test_it_finds_the_best_settings(context: EvaluationContext) -> None:
    report = search()(context, lambda _: None)
    assert report is not None
    found = {name: one["settings"] for name, one in report.metrics["presets"].items()}
    # The best of all trials, which is better than the settings of the command.
    trials = map(read_sealed, (context.output / "trials").glob("*.json"))
    scored = [trial for trial in trials if trial["score"] is not None]
    best = min(scored, key=lambda trial: trial["score"])
    assert with_settings(context.sampler, best["settings"]).to_dict() == found["best"]
    assert report.figures["best_fid"] == pytest.approx(best["score"], abs=0.01)
    assert best["score"] < 1.6 < (2.5 - 3.0) ** 2 + 4 / 6 + 1
    # The presets are within their budgets, and were scored with more images and other seeds.
    paper = report.metrics["paper_gflops"]
    for name, share in BUDGETS.items():
        assert report.metrics["presets"][name]["gflops"] <= share * paper
    confirmations = [call for call in Formula.calls if call[1] == 100]
    assert {seed for _, _, seed in confirmations} == {100, 200}
    # Some trials ended after a part of the images: with 10 instead of 40.
    assert sum(count == 40 for _, count, _ in Formula.calls) < 25
    # The file of a preset gives the same settings.
    report.files["best.yaml"](context.output / "best.yaml")
    values = yaml.safe_load((context.output / "best.yaml").read_text())
    assert with_settings(SamplerConfig(), values) == with_settings(SamplerConfig(), found["best"])
    report.files["front.png"](context.output / "front.png")
    assert (context.output / "front.png").exists()


def test_an_interrupted_search_continues_with_the_same_trials(context: EvaluationContext) -> None:
    """Several processes, each of which has its own numbers, share the files, too."""
    whole = search(trials=9)(context, lambda _: None)
    assert whole is not None
    folder = context.output / "trials"
    first = {path.name: read_sealed(path) for path in folder.glob("*.json")}
    for number in (5, 6, 7, 8):
        (folder / f"{number:05}.json").unlink()
    Formula.calls.clear()
    again = search(trials=9)(context, lambda _: None)
    assert again is not None
    assert {path.name: read_sealed(path) for path in folder.glob("*.json")} == first
    assert again.metrics == whole.metrics
    assert len({id(call[0]) for call in Formula.calls if call[1] != 100}) <= 8
    for number in (3, 4):
        (folder / f"{number:05}.json").unlink()
    own = dataclasses.replace(context, processes=Processes(rank=1, count=2))
    assert search(trials=9)(own, lambda _: None) is None
    assert not (folder / "00004.json").exists()
    assert (folder / "00003.json").exists()


def test_the_first_trial_is_the_command_s_own(context: EvaluationContext) -> None:
    search(trials=1, budgets={"best": 10.0})(context, lambda _: None)
    assert {call[0] for call in Formula.calls} == {context.sampler}
    assert read_sealed(context.output / "trials" / "00000.json")["settings"] == {}


def test_expensive_trials_end_without_images(context: EvaluationContext) -> None:
    slow = {"num_denoise_steps": [100], "num_iterations": [20]}
    search(space=slow, trials=2, budgets={"best": 0.5})(context, lambda _: None)
    trial = read_sealed(context.output / "trials" / "00001.json")
    assert (trial["quick"], trial["score"]) == (None, None)
    assert all(call[0] == context.sampler for call in Formula.calls)


def test_mistakes(context: EvaluationContext) -> None:
    with pytest.raises(ValueError, match=r"evaluation\.space\.scale=\[1\]: give a setting"):
        search(space={"scale": [1]})
    with pytest.raises(ValueError, match=r"evaluation\.metric=kid: .* it can be fid, is"):
        search(metric="kid", trials=1)(context, lambda _: None)
    with pytest.raises(ValueError, match=r"budgets\.draft=1e-09: none of the 1 trials"):
        search(trials=1, budgets={"draft": 1e-9})(context, lambda _: None)


def test_a_budget_without_trials_is_left_out(
    context: EvaluationContext, caplog: pytest.LogCaptureFixture
) -> None:
    report = search(trials=1, budgets={"best": 10.0, "draft": 1e-9})(context, lambda _: None)
    assert report is not None
    assert set(report.metrics["presets"]) == {"best"}
    assert "evaluation.budgets.draft=1e-09: none of the 1 trials" in caplog.text
    path = context.output / "trials" / "00000.json"
    path.write_bytes(seal({**read_sealed(path), "search": "another"}))
    with pytest.raises(ValueError, match="holds another search"):
        search(trials=2)(context, lambda _: None)
