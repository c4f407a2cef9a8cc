"""Classes by number or name."""

from __future__ import annotations

import pytest

from bigr.data.class_names import default_names, find_class


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
    with pytest.raises(ValueError, match="'crane' is 0 and 2: give the number"):
        find_class("crane", 3, ["crane", "tabby", "crane"])
