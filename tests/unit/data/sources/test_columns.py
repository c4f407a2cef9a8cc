"""Columns of tables, and the class names in their metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from bigr.data.sources.columns import find_column, hub_classes, number_rows

PATH = Path("a.parquet")


def test_the_first_name_that_is_a_column() -> None:
    schema = pa.schema([("cls", pa.int64()), ("label", pa.int64())])
    assert find_column(schema, ("label", "cls"), PATH) == "label"
    with pytest.raises(ValueError, match=r"has the columns cls, label, but none of jpg: rename"):
        find_column(schema, ("jpg",), PATH)


def test_names_in_the_metadata() -> None:
    about = {"info": {"features": {"label": {"names": ["dog", "cat"]}}}}
    schema = pa.schema([("label", pa.int64())]).with_metadata({"huggingface": json.dumps(about)})
    assert hub_classes(schema, "label") == ["dog", "cat"]
    assert hub_classes(schema, "image") is None
    assert hub_classes(schema.remove_metadata(), "label") is None


def test_numbers_of_rows() -> None:
    labels, classes = number_rows([1, 0, 1], None, ["dog", "cat"], PATH)
    assert (labels.tolist(), classes) == ([1, 0, 1], ["dog", "cat"])
    labels, classes = number_rows([1, 0], ["cat", "dog"], ["dog", "cat"], PATH)
    assert (labels.tolist(), classes) == ([0, 1], ["cat", "dog"])  # by name
    labels, classes = number_rows(["b", "a"], None, None, PATH)
    assert (labels.tolist(), classes) == ([1, 0], ["a", "b"])
    labels, classes = number_rows([2], None, None, PATH)
    assert (labels.tolist(), classes) == ([2], ["0", "1", "2"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([0, -1], "has the label -1: labels are names, or numbers from 0"),
        ([0, None], "has the label None"),
        ([0.5], "has the label 0.5"),
        ([2], "has class 2, but only 2 names"),
    ],
)
def test_strange_labels_are_refused(words: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        number_rows(words, None, ["a", "b"], PATH)
