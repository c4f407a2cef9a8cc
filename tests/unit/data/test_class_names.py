"""Classes by number or name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bigr.data.class_names import (
    default_names,
    find_class,
    read_names,
    readable_names,
    synonyms,
)


def test_find_class() -> None:
    names = default_names(1000)
    assert names is not None
    assert find_class("Golden Retriever", 1000, names) == 207
    assert find_class(207, 1000, names) == 207
    assert find_class("207", 1000, names) == 207
    assert find_class("7", 10, default_names(10)) == 7
    for name, message in (
        ("retriever", "Did you mean flat-coated retriever"),
        ("goldn retriever", "Did you mean golden retriever"),
        (1000, "classes 0..999"),
        ("", "no class has this name"),
    ):
        with pytest.raises(ValueError, match=message):
            find_class(name, 1000, names)
    with pytest.raises(ValueError, match="'crane' stands for the classes 0 and 2: give the number"):
        find_class("crane", 3, ["crane", "tabby", "crane"])


def test_synonyms() -> None:
    """Some copies of ImageNet name a class "tench, Tinca tinca"."""
    names = ["tench, Tinca tinca", "crane", "crane, machine"]
    assert find_class("tinca tinca", 3, names) == 0
    assert find_class("tench", 3, names) == 0
    assert find_class("crane", 3, names) == 1  # the whole name counts first
    with pytest.raises(ValueError, match="no class has this name"):
        find_class("tin", 3, names)


def test_all_names_of_the_classes() -> None:
    """Every name that is listed is found; names of several classes are not listed."""
    names = ["tench, Tinca tinca", "crane", "crane, machine", "maillot", "maillot"]
    found = synonyms(names)
    assert found == {
        "tench, Tinca tinca": 0, "tench": 0, "Tinca tinca": 0, "crane": 1, "crane, machine": 2,
        "machine": 2,
    }  # fmt: skip
    assert all(find_class(name, 5, names) == number for name, number in found.items())


def test_few_names_are_listed() -> None:
    """Where no name resembles the wrong one."""
    with pytest.raises(ValueError, match=r"no class has this name\. The classes are 7, 8\."):
        find_class("acht", 2, ["7", "8"])


def test_readable_names() -> None:
    """The data's own, and words in place of ImageNet's WordNet ids."""
    words = default_names(1000)
    ids = ["n01440764", *(f"n{number:08d}" for number in range(2_000_000, 2_000_998)), "n15075141"]
    assert readable_names(ids, 1000) == words
    assert readable_names(None, 1000) == words
    others = [f"class {number}" for number in range(1000)]
    assert readable_names(others, 1000) == others
    assert readable_names(("cat", "dog"), 2) == ["cat", "dog"]
    assert readable_names(ids[:100], 100) == ids[:100]
    assert readable_names(None, 10) is None


def test_names_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    assert read_names(path, 2) is None
    path.write_text("Größe\ncat\n", encoding="utf-8")
    assert read_names(path, 2) == ["Größe", "cat"]
    with pytest.raises(ValueError, match=r"classes\.txt has 2 lines, and the generator has 3"):
        read_names(path, 3)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"classes\.txt is not a text file in UTF-8"):
        read_names(path, 2)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"classes\.txt is a named pipe"):
        read_names(path, 2)
