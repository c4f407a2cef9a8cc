"""Facts of a data module are compared if it states them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bigr.training.data_checks import check_equal, check_kind


def test_facts_are_compared_only_where_they_are_stated() -> None:
    data = SimpleNamespace(num_classes=None)
    check_equal(data, {"num_classes": 3, "code_dim": 6}, {})
    other = SimpleNamespace(num_classes=4)
    with pytest.raises(ValueError, match=r"data\.num_classes=4, but the model has 3: use another"):
        check_equal(other, {"num_classes": 3}, {"num_classes": "use another"})


def test_kinds_that_are_not_stated_are_accepted() -> None:
    module: Any = SimpleNamespace(kind="generator", learns="codes")
    check_kind(module, SimpleNamespace(), ("codes",), "")
    check_kind(module, SimpleNamespace(provides="images"), ("codes", "images"), "")
    with pytest.raises(ValueError, match=r"task=generator learns codes, but .* provides text: fix"):
        check_kind(module, SimpleNamespace(provides="text"), ("codes",), "fix")
