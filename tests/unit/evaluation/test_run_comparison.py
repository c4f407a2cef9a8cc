"""One table of several evaluations."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
import torch
from scipy.stats import binom, ttest_ind
from torch import Tensor

from bigr.data.sealed_json import read_sealed, seal
from bigr.evaluation.run_comparison import (
    EvaluatedRun,
    read_run,
    run_differences,
    welch,
    write_comparison,
)
from bigr.metrics.features import Features
from bigr.metrics.moments import Moments
from bigr.metrics.resampling import PartialScores, StandardError, standard_errors
from bigr.metrics.statistics import Reference

CONDITIONS = {"number of images": 5000, "network": "Inception ab", "reference": "cd"}
FIRST = EvaluatedRun(
    "a", {"fid": 3.0, "is": 100.0}, CONDITIONS, {"fid": StandardError(0.1, 99)}, "About a."
)
SECOND = dataclasses.replace(
    FIRST, name="b", figures={"fid": 3.5, "is": 90.0}, errors={"fid": StandardError(0.1, 99)}
)


def cloud(count: int, seed: int) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def test_the_test_is_that_of_scipy() -> None:
    for seed in range(5):
        one, other = cloud(3 + seed, seed)[:, 0].double(), cloud(9, seed + 50)[:, 0].double() * 3
        errors = [
            StandardError(float(part.std()) / len(part) ** 0.5, len(part) - 1)
            for part in (one, other)
        ]
        difference = float(one.mean() - other.mean())
        expected = ttest_ind(one.numpy(), other.numpy(), equal_var=False)
        error, p = welch(difference, *errors)
        assert p == pytest.approx(float(expected.pvalue))
        assert difference / error == pytest.approx(float(expected.statistic))


def test_figures_without_any_spread() -> None:
    nothing = StandardError(0.0, 9)
    assert welch(0.0, nothing, nothing) == (0.0, 1.0)
    assert welch(0.1, nothing, nothing) == (0.0, 0.0)


def test_false_alarms_are_rare() -> None:
    """Of 200 pairs of equal sets, about 5% differ beyond chance."""
    real = cloud(400, 10_000) + 0.5
    moments = Moments(4)
    moments.update(real)
    reference = Reference(moments.mean, moments.covariance)
    runs = []
    for seed in range(400):
        scores = PartialScores(Features(cloud(60, seed)), reference)
        error = standard_errors(scores, 20, seed)["fid"]
        figures = {"fid": scores(torch.arange(60))["fid"]}
        errors = {"fid": StandardError(error, 19)}
        runs.append(EvaluatedRun(str(seed), figures, CONDITIONS, errors, ""))
    alarms = 0
    for first, second in zip(runs[::2], runs[1::2], strict=True):
        (found,), _ = run_differences([first, second])
        alarms += found.verdict == "yes"
    low, high = binom.interval(0.999, 200, 0.05)
    assert low <= alarms <= high


def test_differences() -> None:
    (fid, score), mismatches = run_differences([FIRST, SECOND])
    assert mismatches == []
    assert (fid.figure, fid.difference, fid.verdict) == ("fid", 0.5, "yes")
    assert fid.error == pytest.approx(0.02**0.5)
    assert (score.difference, score.p, score.verdict) == (-10.0, None, "")
    closer = dataclasses.replace(SECOND, figures={"fid": 3.1})
    (only,), _ = run_differences([FIRST, closer])
    assert only.verdict == "no"


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (
            {**CONDITIONS, "number of images": 50, "network": "DINOv2 ef"},
            "b is not compared with a, because they differ in number of images (5000 and 50), "
            "network (Inception ab and DINOv2 ef).",
        ),
        (
            {"train images": 7, **CONDITIONS},
            "b is not compared with a, because they differ in train images (none and 7).",
        ),
        (
            None,
            "b is not compared with a: b comes from an older version, which did not record its "
            "network, reference and number of images.",
        ),
    ],
)
def test_mismatches_are_named(conditions: dict[str, object] | None, message: str) -> None:
    third = dataclasses.replace(SECOND, name="c")
    differences, mismatches = run_differences(
        [FIRST, dataclasses.replace(SECOND, conditions=conditions), third]
    )
    assert mismatches == [message]
    assert {one.run for one in differences} == {"c"}


def test_the_files(tmp_path: Path) -> None:
    other = dataclasses.replace(SECOND, name="c", conditions={**CONDITIONS, "reference": "ee"})
    paths = write_comparison([FIRST, SECOND, other], tmp_path / "new")
    assert [path.name for path in paths] == [f"comparison.{kind}" for kind in ("md", "json", "csv")]
    text = paths[0].read_text()
    for part in (
        "|  | a | b | c |",
        "| number of images | 5,000 | 5,000 | 5,000 |",
        "| fid | 3 ± 0.1 | 3.5 ± 0.1 | 3.5 ± 0.1 |",
        "| fid | b | +0.5 | 0.14 | < 0.001 | yes |",
        "| is | b | -10 |  |  |  |",
        "c is not compared with a, because they differ in reference (cd and ee).",
        "a: About a.",
    ):
        assert part in text
    content = read_sealed(paths[1])
    assert content["differences"][0]["beyond_chance"] == "yes"
    assert [run["name"] for run in content["runs"]] == ["a", "b", "c"]
    with paths[2].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert (rows[2]["run"], rows[2]["figure"], rows[2]["beyond_chance"]) == ("b", "fid", "yes")
    assert float(rows[2]["difference"]) == 0.5
    assert rows[4]["difference"] == ""


def test_a_run_is_read(tmp_path: Path) -> None:
    content = {
        "figures": {"fid": 3.0},
        "conditions": CONDITIONS,
        "errors": {"fid": {"error": 0.1, "freedom": 9}},
        "summary": "About it.",
    }
    path = tmp_path / "metrics.json"
    path.write_bytes(seal(content))
    found = read_run(tmp_path)
    assert found == dataclasses.replace(read_run(path), name=str(tmp_path))
    assert found.errors == {"fid": StandardError(0.1, 9)}
    path.write_bytes(seal({"figures": {"fid": 3.0}}))
    assert read_run(tmp_path).conditions is None
    path.write_bytes(seal(content).replace(b"3.0", b"2.0"))
    with pytest.raises(ValueError, match="run that evaluation again"):
        read_run(tmp_path)
    for wrong in ({"loss": 3}, {"figures": 3}, {"figures": {}, "errors": {"fid": 3}}):
        path.write_bytes(seal(wrong))
        with pytest.raises(ValueError, match="was not written by an evaluation"):
            read_run(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"is not the folder of a finished evaluation: there is"):
        read_run(tmp_path)
