"""Tables in a terminal or a log file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

LINE_WIDTH = 100
"""Smallest width of tables that are not written to a terminal."""
COLUMN_WIDTH = 14
"""Width of a column of such a table, which gets longer lines if it has many columns."""
BORDER = 3
"""Width of a border with the spaces around it."""


def print_tables(
    tables: Iterable[tuple[Sequence[str], Iterable[Sequence[str]]]],
    notes: Iterable[str] = (),
    lead: int = 1,
) -> None:
    """Print tables, and sentences below them.

    A table whose words do not fit into the width of the terminal is split into several tables.

    Args:
        tables: headings and rows.
        notes: sentences, which are wrapped.
        lead: number of columns that each part of a table repeats.
    """
    from rich.console import Console
    from rich.table import Table

    for headings, given in tables:
        rows = list(given)
        width = _width(len(headings))
        for columns in parts([headings, *rows], width, lead):
            table = Table(headings[columns[0]])
            for column in columns[1:]:
                table.add_column(headings[column], justify="right", overflow="fold")
            for cells in rows:
                table.add_row(*(cells[column] for column in columns))
            Console(width=width, markup=False).print(table)
    for note in notes:
        Console(width=_width(1), markup=False).print(note, highlight=False)


def parts(rows: Sequence[Sequence[str]], width: int, lead: int) -> list[list[int]]:
    """Return the columns of each part of a table, which is a single one if it is narrow enough.

    Args:
        rows: cells, those of the headings included, which can be wrapped between words.
        width: available width in characters.
        lead: number of columns that begin every part.
    """
    sizes = [
        BORDER + max((len(word) for row in rows for word in row[column].split()), default=0)
        for column in range(len(rows[0]))
    ]
    first = list(range(lead))
    found, used = [list(first)], sum(sizes[:lead])
    for column in range(lead, len(sizes)):
        if used + sizes[column] >= width and len(found[-1]) > lead:
            found.append(list(first))
            used = sum(sizes[:lead])
        found[-1].append(column)
        used += sizes[column]
    return found


def _width(num_columns: int) -> int:
    """Return the width of the terminal; a log file can have longer lines."""
    columns = shutil.get_terminal_size().columns
    is_terminal = sys.stdout.isatty()
    return columns if is_terminal else max(LINE_WIDTH, columns, COLUMN_WIDTH * num_columns)
