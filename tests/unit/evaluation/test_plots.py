"""Plots: what they show, and nothing without matplotlib."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigr.evaluation import plots


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of every figure that is written."""
    figure = pytest.importorskip("matplotlib.figure").Figure
    found: list[Any] = []
    save = figure.savefig

    def keep(self: Any, *arguments: Any, **more: Any) -> None:
        found.append(self.axes[0])
        save(self, *arguments, **more)

    monkeypatch.setattr(figure, "savefig", keep)
    return found


def test_lines(tmp_path: Path, axes: list[Any]) -> None:
    path = tmp_path / "new" / "lines.png"
    curves = {"a": {3.0: 1.0, 1.0: 2.0}, "b": {1.0: 0.0}}
    assert plots.lines(path, curves, x="n", y="FID", legend="heat", log_x=True) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    (drawn,) = axes
    assert drawn.lines[0].get_xydata().tolist() == [[1.0, 2.0], [3.0, 1.0]]
    assert (drawn.get_xlabel(), drawn.get_ylabel(), drawn.get_xscale()) == ("n", "FID", "log")
    assert [text.get_text() for text in drawn.get_xticklabels()] == ["1", "3"]
    assert [text.get_text() for text in drawn.get_legend().get_texts()] == ["a", "b"]


def test_front(tmp_path: Path, axes: list[Any]) -> None:
    """Only points that no other one beats in both are joined."""
    points = [(3.0, 9.0, "c"), (1.0, 5.0, "a"), (2.0, 4.0, "beaten"), (2.0, 7.0, "b")]
    plots.front(tmp_path / "front.png", points, x="fid", y="is")
    assert axes[0].lines[0].get_xydata().tolist() == [[1.0, 5.0], [2.0, 7.0], [3.0, 9.0]]
    assert {text.get_text() for text in axes[0].texts} == {"a", "b", "beaten", "c"}


def test_scatter(tmp_path: Path, axes: list[Any]) -> None:
    points, labels = np.arange(8.0).reshape(4, 2), np.array([1, 0, 1, 1])
    plots.scatter(tmp_path / "scatter.png", points, labels)
    assert [len(one.get_offsets()) for one in axes[0].collections] == [1, 3]
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["0", "1"]


def test_heat_map(tmp_path: Path, axes: list[Any]) -> None:
    plots.heat_map(
        tmp_path / "map.png", [[1.0, None], [2.5, 3.0]],
        rows=["r", "s"], columns=["u", "v"], x="x", y="y", title="fid",
    )  # fmt: skip
    assert [text.get_text() for text in axes[0].texts] == ["1", "failed", "2.5", "3"]


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert plots.lines(tmp_path / "lines.png", {"": {1.0: 1.0}}, x="", y="") is None
    assert list(tmp_path.iterdir()) == []
