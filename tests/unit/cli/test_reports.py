"""What is written about a result, and how a finished evaluation is recognised."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from bigr.cli.configuration import ConfigError
from bigr.cli.reports import figure, finished, identity, log_speed, training_summary, write
from bigr.data.sealed_json import read_sealed, seal
from bigr.evaluation.report import Curve, Report

SETTINGS = {
    "seed": 0,
    "sampler": {"guidance_scale": 2.5},
    "device": "cpu",
    "paths": {"output": "a"},
}


def test_identity() -> None:
    """The same for everything that gives the same figures, another for anything else."""
    same = identity(SETTINGS, ["state"])
    assert identity({**SETTINGS, "device": "cuda", "paths": {}, "devices": 8}, ["state"]) == same
    assert identity({**SETTINGS, "seed": 1}, ["state"]) != same
    assert identity({**SETTINGS, "sampler": {"guidance_scale": 2.0}}, ["state"]) != same
    assert identity(SETTINGS, ["other"]) != same


def test_everything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []
    report = Report(
        metrics={"count": 2},
        figures={"fid": 1.5},
        rows=[("FID-2", "1.5")],
        notes=["Two images are few."],
        pictures={"samples.png": (torch.zeros(2, 3, 64, 64), 2)},
        curves={"curve.png": Curve("n", "FID", {1: 2.0, 2: 1.5})},
        files={"notes.txt": lambda path: path.write_text("done")},
        cleanup=[lambda: calls.append(str((tmp_path / "metrics.json").exists()))],
    )
    metrics = write(report, tmp_path, settings_sha256="abc")
    assert metrics == {
        "count": 2,
        "figures": {"fid": 1.5},
        "title": tmp_path.name,
        "table": {"headings": ["metric", "measured"], "rows": [["FID-2", "1.5"]]},
        "summary": "FID-2: 1.5.",
        "conditions": {},
        "errors": {},
        "notes": ["Two images are few."],
        "settings_sha256": "abc",
    }
    assert read_sealed(tmp_path / "metrics.json") == metrics
    assert Image.open(tmp_path / "samples.png").size == (2 * 66 + 2, 68)
    assert (tmp_path / "notes.txt").read_text() == "done"
    text = (tmp_path / "report.md").read_text()
    for link in ("](samples.png)", "](curve.png)", "[notes.txt](notes.txt)"):
        assert link in text
    assert calls == ["True"]  # after everything is written
    out = capsys.readouterr().out
    assert "FID-2" in out
    assert "Two images are few." in out


def test_finished(tmp_path: Path) -> None:
    assert finished(tmp_path, "abc") is None
    for text, expected in (
        ("not json", None),
        ("[1]", None),
        ('{"settings_sha256": "other"}', None),
        ('{"settings_sha256": "abc"}', None),  # of an older version, without a checksum
        (seal({"settings_sha256": "abc"}).decode(), {"settings_sha256": "abc"}),
        (seal({"settings_sha256": "abc", "fid": 2.5}).decode().replace("2.5", "1.5"), None),
    ):
        (tmp_path / "metrics.json").write_text(text)
        assert finished(tmp_path, "abc") == expected


def test_earlier_scores_are_kept(tmp_path: Path) -> None:
    """Those of the same settings and weights are replaced."""
    for value, settings in ((1.0, "a" * 64), (2.0, "a" * 64), (3.0, "b" * 64)):
        write(Report({}, {"fid": value}), tmp_path, settings_sha256=settings)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "metrics.json",
        "metrics_aaaaaaaa.json",
    ]
    assert read_sealed(tmp_path / "metrics_aaaaaaaa.json")["figures"] == {"fid": 2.0}
    assert read_sealed(tmp_path / "metrics.json")["figures"] == {"fid": 3.0}


def test_figure() -> None:
    metrics = {"figures": {"fid": 2.0}, "generated": {"recall": 0.5}, "count": 3}
    assert figure(None, metrics) is None
    assert figure("fid", metrics) == 2.0
    assert figure("generated.recall", metrics) == 0.5
    for name in ("is", "generated.fid", "count.x"):
        with pytest.raises(ConfigError, match=f"optimized_metric={name}: there is no such figure"):
            figure(name, metrics)


def test_speed(tmp_path: Path) -> None:
    """One line per run; on a CPU there is no peak to compare with."""
    for count in (10, 20):
        log_speed(tmp_path, torch.device("cpu"), count, 4.0, 8e12, 2)
    first, second = map(json.loads, (tmp_path / "speed.jsonl").read_text().splitlines())
    assert (first["images"], second["images"]) == (10, 20)
    assert first["images_per_second"] == 2.5
    assert first["tflop_per_second"] == 2.0
    assert first["processes"] == 2
    assert "share_of_peak" not in first


def test_training_summary(tmp_path: Path) -> None:
    """It ends with the scores of the last validation, the weights, and a command to go on with."""
    metrics = {"val/psnr": torch.tensor(22.3456), "lr-AdamW": torch.tensor(0.0), "val/loss": 0.5}
    trainer = SimpleNamespace(global_step=2400, callback_metrics=metrics)
    model = {"model": {"num_classes": 10}, "autoencoder": "bae"}
    settings = {"task": model, "data": {"_target_": "x.DigitsDataModule"}}
    lines = training_summary(trainer, tmp_path, settings)
    assert lines[:2] == ["finished at step 2,400", "validation: loss 0.5, psnr 22.35"]
    assert len(lines) == 2  # there are neither weights nor pictures
    (tmp_path / "generator.safetensors").touch()
    (tmp_path / ".hydra").mkdir()
    for name in ("pictures", "checkpoints"):
        (tmp_path / name).mkdir()
    lines = training_summary(trainer, tmp_path, settings)
    assert f"weights: {tmp_path / 'generator.safetensors'}" in lines
    assert f"in {tmp_path}: checkpoints, pictures" in lines
    assert [line.split(" generator=")[0] for line in lines[-2:]] == [
        "next: python -m bigr.sample",
        "next: python -m bigr.evaluate evaluation=digits_fidelity",
    ]
    (tmp_path / "generator.safetensors").rename(tmp_path / "autoencoder.safetensors")
    last = training_summary(trainer, tmp_path, settings, "digits_autoencoder")[-1]
    assert last.endswith(f"experiment=digits_generator task.autoencoder={tmp_path}")


def test_columns_without_entries_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ("measured", "published", "agrees")
    rows = [("FID", "2.5", "", "yes"), ("IS", "270", "", "")]
    write(Report(metrics={}, rows=rows, columns=columns), tmp_path)
    table = capsys.readouterr().out
    assert "measured" in table
    assert "agrees" in table
    assert "270" in table
    assert "published" not in table
