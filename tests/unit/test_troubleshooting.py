"""The messages that the page on troubleshooting quotes are messages of the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOREIGN = ("No module named", "'bigr'", "OutOfMemoryError")
"""Quotations from Python and PyTorch."""
MIN_LENGTH = 4
"""Shorter fragments between two gaps of a quotation say nothing."""


def texts() -> Iterator[str]:
    """Every string in the package, with a gap in the place of each inserted value."""
    for path in sorted((ROOT / "src" / "bigr").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )


def quotations() -> Iterator[str]:
    """The code in the headings of the page, split where it leaves something out."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    for heading in re.findall(r"^### (.*)$", page, flags=re.MULTILINE):
        for quotation in re.findall(r"`([^`]+)`", heading):
            if not quotation.startswith(FOREIGN):
                yield quotation


def test_quoted_messages_exist() -> None:
    """The fragments of a quotation follow each other in one string, values may be in between."""
    known, quoted = [*texts(), (ROOT / "Makefile").read_text()], list(quotations())
    missing = []
    for quotation in quoted:
        fragments = [part for part in quotation.split("…") if len(part) >= MIN_LENGTH]
        pattern = re.compile(".*".join(map(re.escape, fragments)), flags=re.DOTALL)
        if not any(pattern.search(text) for text in known):
            missing.append(quotation)
    assert len(quoted) > 30
    assert missing == []
