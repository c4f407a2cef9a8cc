"""After a sweep: its table, what is not finished, and the best job once more."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bigr.cli.sweeps import finish
from bigr.data.sealed_json import seal


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    found: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: found.append(command))
    return found


def sweep(folder: Path, finished: int) -> Any:
    """Three jobs; the configuration that they share."""
    for number in range(3):
        place = folder / str(number)
        (place / ".hydra").mkdir(parents=True)
        (place / ".hydra" / "overrides.yaml").write_text(f"- sampler.scale={number}.5\n")
        if number < finished:
            figures = {"fid": 5.0 - number}
            (place / "metrics.json").write_bytes(seal({"figures": figures}))
    task = ["generator=g.pt", "sampler.scale=0.5,1.5,2.5", "evaluation.count=100", "sweep=guidance"]
    return OmegaConf.create(
        {
            "hydra": {"sweep": {"dir": str(folder)}, "overrides": {"task": task}},
            "confirm": 5000,
            "optimized_metric": "fid",
        }
    )


def test_the_best_job_is_repeated(tmp_path: Path, commands: list[list[str]]) -> None:
    finish(sweep(tmp_path, finished=3))
    assert (tmp_path / "sweep.csv").is_file()
    ((*_, module, generator, count, scale, confirmed, place, mode),) = commands
    assert module == "bigr.evaluate"
    assert (generator, count, scale) == (
        "generator=g.pt",
        "evaluation.count=100",
        "sampler.scale=2.5",
    )
    assert confirmed == "evaluation.count=5000"
    assert place == f"hydra.run.dir={tmp_path / 'confirmed'}"
    assert mode == "hydra.mode=RUN"


def test_the_printed_table_is_narrow(
    tmp_path: Path, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its headings have words instead of keys, and its numbers four digits."""
    finish(sweep(tmp_path, finished=3))
    heading = next(line for line in capsys.readouterr().out.splitlines() if "job" in line)
    assert "scale" in heading
    assert "sampler." not in heading
    assert "sampler.scale" in (tmp_path / "sweep.csv").read_text()


def test_not_finished(
    tmp_path: Path, commands: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        finish(sweep(tmp_path, finished=1))
    assert "not finished: 1, 2" in caplog.text
    assert commands == []


def test_no_job_has_begun(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    finish(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert "contains no jobs of a sweep" in caplog.text
