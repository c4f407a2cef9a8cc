"""Stand-ins for two small packages that a machine with only PyTorch and Lightning does not have.

The package checks its settings with Pydantic, against annotations from ``annotated_types``. The
acceptance run builds all settings itself, so that it can do without these checks. Nothing else in
this repository uses the stand-ins.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any


class Anything:
    """Metadata of an annotation, with any arguments; nothing reads it."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __class_getitem__(cls, item: Any) -> Any:
        return item


class PydanticUserError(TypeError):
    """Tells :mod:`bigr.schema` that an annotation cannot be checked."""


class TypeAdapter:
    """A validator that cannot be made, so that values are taken as they are."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise PydanticUserError


CONTENTS: dict[str, dict[str, Any]] = {
    "annotated_types": {},
    "pydantic": {"TypeAdapter": TypeAdapter, "ValidationError": PydanticUserError},
    "pydantic.errors": {"PydanticUserError": PydanticUserError},
}


def add_missing() -> list[str]:
    """Add stand-ins for those of the two packages that are missing, and return their names."""
    missing = [
        name for name in ("annotated_types", "pydantic") if importlib.util.find_spec(name) is None
    ]
    for name, contents in CONTENTS.items():
        if name.split(".")[0] in missing:
            module = types.ModuleType(name)
            vars(module).update(contents, __getattr__=_anything)
            sys.modules[name] = module
    return missing


def _anything(name: str) -> Any:
    """Return :class:`Anything` for the names of a stand-in that nobody has listed."""
    if name.startswith("__"):
        raise AttributeError(name)
    return Anything
