"""Comparisons of a LightningModule with what its data module states about itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def check_equal(data: Any, expected: dict[str, Any], fixes: dict[str, str]) -> None:
    """Raise ``ValueError`` if the data module states another value for one of ``expected``.

    Args:
        data: a data module; attributes that it lacks, or that are None, are not compared.
        expected: values by attribute.
        fixes: what to change, by attribute.
    """
    for name, ours in expected.items():
        theirs = getattr(data, name, None)
        if theirs is not None and theirs != ours:
            raise ValueError(f"data.{name}={theirs}, but the model has {ours}: {fixes[name]}.")


def check_kind(module: Any, data: Any, accepted: Iterable[str], fix: str) -> None:
    """Raise ``ValueError`` if the data module states that it provides something not accepted.

    Args:
        module: the :class:`~bigr.training.base_module.TrainingModule`.
        data: a data module, which may state ``provides``.
        accepted: values of ``provides`` on which the module can be trained.
        fix: what to change.
    """
    provides = getattr(data, "provides", None)
    if provides is not None and provides not in accepted:
        raise ValueError(
            f"task={module.kind} learns {module.learns}, but this data module provides "
            f"{provides}: {fix}."
        )
