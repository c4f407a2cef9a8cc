"""How an evaluation is run: checked first, and not repeated with the same settings and weights."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.cli.entry import UserError
from bigr.cli.evaluations import evaluate
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.report import Report
from tests.models import tiny_autoencoder, tiny_generator


class Counting:
    """Counts its calls, and refuses a negative value."""

    is_shared = False
    calls = 0

    def __init__(self, value: float = 1.0) -> None:
        self.value = value

    def check(self, context: EvaluationContext) -> None:
        if self.value < 0:
            raise ValueError(f"evaluation.value={self.value} is negative.")

    def num_images(self, context: EvaluationContext) -> int:
        return 3

    def __call__(self, context: EvaluationContext, on_batch: Any) -> Report:
        Counting.calls += 1
        on_batch(3)
        classes = context.models.generator.config.num_classes
        return Report({"classes": classes}, {"value": self.value}, [("value", "1")])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = types.ModuleType("lab_of_this_test")
    module.Counting = Counting  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lab_of_this_test", module)
    monkeypatch.setattr(Counting, "calls", 0)
    save_generator(tiny_generator(), tmp_path / "g.safetensors")
    save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    return OmegaConf.create(
        {
            "generator": str(tmp_path / "g.safetensors"),
            "autoencoder": str(tmp_path / "a.safetensors"),
            "sampler": {"_target_": "bigr.SamplerConfig", "num_denoise_steps": 4},
            "execution": {"_target_": "bigr.ExecutionConfig"},
            "evaluation": {"_target_": "lab_of_this_test.Counting"},
            "device": "cpu",
            "devices": 1,
            "num_nodes": 1,
            "optimized_metric": "value",
            "paths": {"output": str(tmp_path / "run")},
        }
    )


def metrics(config: Any) -> Any:
    return json.loads((Path(config.paths.output) / "metrics.json").read_text())


def test_run_and_not_repeated(config: Any) -> None:
    """The same settings and weights are done once; others, or other weights, are done again."""
    assert evaluate(config) == 1.0
    assert metrics(config)["classes"] == 3
    assert (Path(config.paths.output) / "config.yaml").is_file()
    assert evaluate(config) == 1.0
    assert Counting.calls == 1
    config.evaluation.value = 2.0
    assert evaluate(config) == 2.0
    save_generator(tiny_generator(num_classes=5), Path(config.generator))
    assert evaluate(config) == 2.0
    assert metrics(config)["classes"] == 5
    assert Counting.calls == 3


def test_checked_before_anything_is_written(config: Any) -> None:
    config.evaluation.value = -1.0
    with pytest.raises(UserError, match=r"evaluation\.value=-1\.0 is negative"):
        evaluate(config)
    assert not Path(config.paths.output).exists()
    assert Counting.calls == 0


def test_work_that_cannot_be_shared(config: Any) -> None:
    config.devices = 2
    with pytest.raises(UserError, match="use one"):
        evaluate(config)
