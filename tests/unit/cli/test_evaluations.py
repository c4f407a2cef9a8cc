"""How an evaluation is run: checked first, and not repeated with the same settings and weights."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.cli.entry import UserError
from bigr.cli.evaluations import evaluate
from bigr.data.locks import LOCK_FILE
from bigr.evaluation.evaluator import EvaluationContext
from bigr.evaluation.report import Report
from tests.models import tiny_autoencoder, tiny_generator


class Counting:
    """Counts its calls, and refuses a negative value."""

    is_shared = False
    calls = 0

    def __init__(self, value: float = 1.0, samples: str | None = None) -> None:
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
    checksums = metrics(config)["weights_sha256"]
    assert checksums == {
        "generator": weights_sha256(tiny_generator()),
        "autoencoder": weights_sha256(tiny_autoencoder()),
    }
    assert (Path(config.paths.output) / "config.yaml").is_file()
    assert evaluate(config) == 1.0
    assert Counting.calls == 1
    config.evaluation.value = 2.0
    assert evaluate(config) == 2.0
    save_generator(tiny_generator(num_classes=5), Path(config.generator))
    assert evaluate(config) == 2.0
    assert metrics(config)["classes"] == 5
    assert metrics(config)["weights_sha256"]["generator"] != checksums["generator"]
    assert Counting.calls == 3


def test_replaced_samples_are_scored_again(config: Any, tmp_path: Path) -> None:
    folder = tmp_path / "samples" / "cats"
    folder.mkdir(parents=True)
    (folder / "0.png").write_bytes(b"old")
    config.evaluation.samples = config.samples = str(tmp_path / "samples")
    assert evaluate(config) == evaluate(config) == 1.0
    assert Counting.calls == 1
    (folder / "0.png").write_bytes(b"new one")
    evaluate(config)
    assert Counting.calls == 2


def test_samples_that_nothing_looks_at(config: Any) -> None:
    config.samples = "photos"
    with pytest.raises(UserError, match="samples=photos has no effect on this evaluation: leave"):
        evaluate(config)


def test_checked_before_anything_is_written(config: Any) -> None:
    config.evaluation.value = -1.0
    with pytest.raises(UserError, match=r"evaluation\.value=-1\.0 is negative"):
        evaluate(config)
    assert [path.name for path in Path(config.paths.output).iterdir()] == [LOCK_FILE]
    assert Counting.calls == 0


def test_work_that_cannot_be_shared(config: Any) -> None:
    config.devices = 2
    with pytest.raises(UserError, match="use one"):
        evaluate(config)


def test_changed_metrics_are_not_believed(config: Any, caplog: pytest.LogCaptureFixture) -> None:
    evaluate(config)
    path = Path(config.paths.output) / "metrics.json"
    path.write_text(path.read_text().replace('"value": 1.0', '"value": 0.5'))
    assert evaluate(config) == 1.0
    assert Counting.calls == 2
    assert "metrics.json is damaged" in caplog.text
    assert metrics(config)["figures"] == {"value": 1.0}


def test_errors_while_results_are_written(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of files that are read once more, and of the disk."""

    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    def with_file(self: Counting, context: EvaluationContext, on_batch: Any) -> Report:
        return Report({}, {"value": 1.0}, files={"samples.npz": fail})

    monkeypatch.setattr(Counting, "__call__", with_file)
    with pytest.raises(UserError, match=r"No space left on device.*samples\.npz"):
        evaluate(config)
    assert not (Path(config.paths.output) / "metrics.json").exists()
