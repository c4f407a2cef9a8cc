"""Labels that are names or numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigr.data.sources.labels import number_labels


@pytest.mark.parametrize(
    ("words", "classes", "labels", "known"),
    [
        (["b", "a", "b"], None, [1, 0, 1], ["a", "b"]),
        (["b"], ["c", "b"], [1], ["c", "b"]),
        (["2", "0"], None, [2, 0], ["0", "1", "2"]),
        (["1", "0"], ["cat", "dog"], [1, 0], ["cat", "dog"]),
        (["10", "2"], ["10", "2"], [0, 1], ["10", "2"]),  # folders that are called 10 and 2
    ],
)
def test_numbers_of_labels(
    tmp_path: Path, words: list[str], classes: list[str] | None, labels: list[int], known: list[str]
) -> None:
    found = number_labels(words, classes, tmp_path / "labels.csv")
    assert (found[0].tolist(), found[1]) == (labels, known)


def test_names_of_numbers_are_read_beside_them(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("Katze\nHündin \n", encoding="utf-8")
    labels, known = number_labels(["1", "0"], None, tmp_path / "labels.csv")
    assert (labels.tolist(), known) == ([1, 0], ["Katze", "Hündin"])
    with pytest.raises(ValueError, match=r"has class 2, but classes\.txt only 0\.\.1"):
        number_labels(["2"], None, tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "is empty"),
        (["3"], r"has class 3, but the training set only 0\.\.1"),
        (["cow"], "has the class cow, which is not in the training set"),
    ],
)
def test_unknown_labels_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        number_labels(words, ["cat", "dog"], tmp_path / "labels.csv")
