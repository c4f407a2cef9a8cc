"""Tables that fit into a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest

from bigr.cli.tables import parts, print_tables

HEADINGS = ["job", "scale", "digits frechet", "digits precision", "state"]
ROWS = [["0", "1.0", "0.5643", "0.98", "done"], ["1", "1.5", "0.59", "0.9", "not finished"]]


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_words_are_not_broken(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    print_tables([(HEADINGS, ROWS)], ["A sentence that is wrapped."], lead=2)
    text = re.sub(r"\x1b\[\d*m", "", terminal.getvalue())
    assert max(map(len, text.splitlines())) <= width
    for word in " ".join([*HEADINGS, *ROWS[0], *ROWS[1]]).split():
        assert word in text, word
    tables = text.count("┏")
    assert tables == (1 if width >= 60 else 2 if width == 40 else 3)
    assert text.count("job") == text.count("scale") == tables


def test_a_log_file_has_long_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_tables([(HEADINGS, ROWS)])
    assert "digits precision" in capsys.readouterr().out


def test_a_column_that_is_too_wide_stands_alone() -> None:
    assert parts([["a", "b", "c"], ["1", "x" * 50, "2"]], width=20, lead=1) == [[0, 1], [0, 2]]
    assert parts([["a", "b", "c"]], width=20, lead=1) == [[0, 1, 2]]
    assert parts([["a"]], width=1, lead=1) == [[0]]
