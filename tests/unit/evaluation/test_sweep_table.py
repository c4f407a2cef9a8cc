"""Tables of sweeps: read from the folders of their jobs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigr.data.sealed_json import seal
from bigr.evaluation.sweep_table import (
    best_job,
    is_better,
    read_jobs,
    sample_grid,
    summarise,
    swept_keys,
    table,
)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """2 x 3 jobs, and one that is not finished."""
    jobs = [(scale, heat) for scale in ("1.0", "2.0") for heat in ("0.1", "0.2", "0.3")]
    for number, (scale, heat) in enumerate([*jobs, ("3.0", "0.1")]):
        place = tmp_path / str(number)
        (place / ".hydra").mkdir(parents=True)
        (place / ".hydra" / "overrides.yaml").write_text(
            f"- sampler.guidance_scale={scale}\n- sampler.heat={heat}\n- seed=1\n"
        )
        if number < 6:
            figures = {"fid": 10.0 - number, "is": (number * 7) % 5}
            (place / "metrics.json").write_bytes(seal({"figures": figures}))
    return tmp_path


def test_jobs_and_keys(sweep: Path) -> None:
    jobs = read_jobs(sweep)
    assert [job.name for job in jobs] == list("0123456")
    assert [job.is_finished for job in jobs] == [True] * 6 + [False]
    assert set(swept_keys(jobs)) == {"sampler.guidance_scale", "sampler.heat"}
    assert best_job(jobs, "fid").name == "5"
    assert best_job(jobs, "is").name == "2"  # 14 % 5
    with pytest.raises(
        ValueError, match="no finished job has the score kid; available are fid, is"
    ):
        best_job(jobs, "kid")


def test_the_tenth_job_comes_last(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        (tmp_path / str(number) / ".hydra").mkdir(parents=True)
        (tmp_path / str(number) / ".hydra" / "overrides.yaml").write_text("[]\n")
    assert [job.name for job in read_jobs(tmp_path)] == ["2", "9", "10"]
    with pytest.raises(ValueError, match="contains no jobs of a sweep"):
        read_jobs(tmp_path / "2")


def test_what_is_better() -> None:
    assert [is_better(name) for name in ("fid", "digits_frechet", "rfid")] == [-1] * 3
    assert [is_better(name) for name in ("is", "recall", "digits_score")] == [1] * 3


def test_summary(sweep: Path) -> None:
    pytest.importorskip("matplotlib")
    names = {path.name for path in summarise(sweep)}
    assert names == {
        *("sweep.csv", "sweep.md", "sweep_front.png"),
        *(f"sweep_{figure}{kind}.png" for figure in ("fid", "is") for kind in ("", "_map")),
    }
    assert all((sweep / name).stat().st_size > 0 for name in names)
    with (sweep / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done"] * 6 + ["not finished"]
    assert rows[4]["fid"] == "6"
    assert rows[6]["fid"] == ""
    headings, cells = table(read_jobs(sweep))
    assert headings[0] == "job"
    assert (sweep / "sweep.md").read_text().splitlines()[2] == f"| {' | '.join(cells[0])} |"


def test_sample_grid(sweep: Path) -> None:
    with pytest.raises(ValueError, match="has written images"):
        sample_grid(sweep, 4)
    for number, shade in ((0, 50), (3, 200)):
        for index in range(2):
            path = sweep / str(number) / "images" / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (64, 64), (shade, 0, index)).save(path)
    grid = np.array(Image.open(sample_grid(sweep, 4)))
    assert grid.shape[0] == 2 * 66 + 2
    assert grid[30, -30].tolist() == [50, 0, 1]
    assert grid[100, -100].tolist() == [200, 0, 0]


def test_damaged_results_do_not_count(sweep: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = sweep / "5" / "metrics.json"
    path.write_text(path.read_text().replace("5.0", "1.0"))
    jobs = read_jobs(sweep)
    assert [job.is_finished for job in jobs] == [True] * 5 + [False] * 2
    assert best_job(jobs, "fid").name == "4"
    assert "5/metrics.json is damaged" in caplog.text
