"""Rules of CONTRIBUTING.md that no linter knows."""

from __future__ import annotations

import ast
import collections
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "bigr"
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MIN_LINES = 60
"""A module that is longer has a test file of its own."""
MIN_WORDS = 5
ENTRY_POINTS = (
    *("train", "fit", "evaluate", "sample", "tokenize", "probe"),
    *("convert", "demo", "sweep", "fetch"),
)
ENTRY_POINT_LINES = 120


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def definitions(path: Path) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node


def test_no_two_modules_share_a_name() -> None:
    """An entry point may have the name of what it runs in another package, nothing else may."""
    places = collections.defaultdict(list)
    for path in MODULES:
        places[path.stem].append(name(path))
    assert {stem: found for stem, found in places.items() if len(found) > 1} == {}


def test_no_two_public_classes_share_a_name() -> None:
    places = collections.defaultdict(list)
    for path in MODULES:
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name(path))
    assert {word: found for word, found in places.items() if len(found) > 1} == {}


def test_every_module_of_some_length_has_a_test_file() -> None:
    missing = []
    for path in MODULES:
        place = path.relative_to(SOURCE)
        mirror = ROOT / "tests" / "unit" / place.with_name(f"test_{place.name}")
        is_entry_point = place.parent == Path() and place.stem in ENTRY_POINTS
        if len(path.read_text().splitlines()) > MIN_LINES and not is_entry_point:
            missing += [] if mirror.is_file() else [name(path)]
    assert missing == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_docstrings_say_something(path: Path) -> None:
    short = [
        f"{node.name}: {text}"
        for node in definitions(path)
        if (text := ast.get_docstring(node)) and len(text.split()) < MIN_WORDS
    ]
    assert short == []


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_tests_use_public_names_alone(path: Path) -> None:
    """``thing._name`` of anything but ``self``, and ``from bigr.x import _name``."""
    private = re.compile(r"_[a-z]\w*")
    allowed = {"_replace", "_asdict", "_fields", "_target_", "_partial_", "_exit"}
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute) and private.fullmatch(node.attr):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not is_own and node.attr not in allowed:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bigr"):
            found += [alias.name for alias in node.names if alias.name.startswith("_")]
    assert found == []


def test_entry_points_are_thin() -> None:
    lengths = {
        point: len((SOURCE / f"{point}.py").read_text().splitlines()) for point in ENTRY_POINTS
    }
    assert {p: n for p, n in lengths.items() if n > ENTRY_POINT_LINES} == {}
