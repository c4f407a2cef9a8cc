"""What is written about a result, and how a finished evaluation is recognised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from bigr.cli.configuration import ConfigError
from bigr.cli.reports import figure, finished, identity, log_speed, write
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
        pictures={"samples.png": (torch.zeros(2, 3, 64, 64), 2)},
        curves={"curve.png": Curve("n", "FID", {1: 2.0, 2: 1.5})},
        files={"notes.txt": lambda path: path.write_text("done")},
        cleanup=[lambda: calls.append(str((tmp_path / "metrics.json").exists()))],
    )
    metrics = write(report, tmp_path, settings_sha256="abc")
    assert metrics == {"count": 2, "figures": {"fid": 1.5}, "settings_sha256": "abc"}
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert Image.open(tmp_path / "samples.png").size == (2 * 66 + 2, 68)
    assert (tmp_path / "notes.txt").read_text() == "done"
    assert calls == ["True"]  # after everything is written
    assert "FID-2" in capsys.readouterr().out


def test_finished(tmp_path: Path) -> None:
    assert finished(tmp_path, "abc") is None
    for text, expected in (
        ("not json", None),
        ("[1]", None),
        ('{"settings_sha256": "other"}', None),
        ('{"settings_sha256": "abc"}', {"settings_sha256": "abc"}),
    ):
        (tmp_path / "metrics.json").write_text(text)
        assert finished(tmp_path, "abc") == expected


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
