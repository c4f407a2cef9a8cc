"""The comparison of finished evaluations on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bigr.cli.reports import write
from bigr.evaluate import main
from bigr.evaluation.report import Report
from bigr.metrics.resampling import StandardError


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, fid, count in (("a", 2.0, 50), ("b", 3.0, 50), ("c", 4.0, 60)):
        Path(name).mkdir()
        report = Report({}, {"fid": fid}, [("FID", str(fid))], conditions={"count": count})
        report.errors["fid"] = StandardError(0.1, 99)
        write(report, Path(name))
    return tmp_path


def compare(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["bigr.evaluate", "compare", *arguments])
    main()


def test_runs_are_compared(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    compare(monkeypatch, "a", "b", "c", "--output", "tables")
    out = capsys.readouterr().out
    for part in ("3 ± 0.1", "< 0.001", "yes", "they differ in count (50 and 60)."):
        assert part in out
    assert {path.name for path in (runs / "tables").iterdir()} == {
        f"comparison.{suffix}" for suffix in ("md", "json", "csv")
    }
    compare(monkeypatch, "a/metrics.json", "b")
    assert (runs / "outputs" / "compare" / "comparison.md").is_file()


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a",), "a comparison needs at least two runs, got only a."),
        (("a", "a"), "a run is given twice: name different folders."),
        (("a", "d"), "d is not the folder of a finished evaluation: there is no d."),
        (("a", "."), "metrics.json."),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        compare(monkeypatch, *arguments)
    assert error.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(message)
