"""The literal defaults of the parameters of a function or class, read from its source file.

Nothing is imported, so that this takes milliseconds where importing the module would import torch.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

NOT_LITERAL = object()
"""Stands for a default that only running the code would tell."""
FACTORIES: dict[str, Any] = {"list": [], "tuple": [], "dict": {}}
"""What the ``default_factory`` of a dataclass field makes."""


class Definition(NamedTuple):
    """A statement of a module: a class, a function, or the assignment of a constant.

    Args:
        module: the dotted name of the module.
        statement: the parsed statement.
    """

    module: str
    statement: ast.stmt


def literal_defaults(target: str) -> dict[str, Any]:
    """Return the defaults of the parameters of ``target`` by name; tuples become lists.

    Args:
        target: the dotted name of a class, a function or a method, for example
            ``bigr.BiGRPipeline.inpaint``. Names that a package imports from its modules are
            followed.

    Returns:
        Defaults that are literals, or module-level constants that are literals. Parameters with
        another default, or without one, are left out. Empty for a target that is not found.
    """
    return copy.deepcopy(_defaults(target))


@functools.lru_cache(maxsize=1024)
def _defaults(target: str) -> dict[str, Any]:
    found = _find(target)
    if found is None:
        return {}
    defaults: dict[str, Any] = {}
    for name, value in _parameters(found):
        defaults.setdefault(name, value)
    return {name: value for name, value in defaults.items() if value is not NOT_LITERAL}


def _find(target: str) -> Definition | None:
    """Return where the object with the dotted name ``target`` is defined."""
    # 1. The module: as many parts of the name as there are folders and files for.
    parts = target.split(".")
    spec = importlib.util.find_spec(parts[0])
    if spec is None or spec.origin is None:
        return None
    path, length = Path(spec.origin), 1
    while length < len(parts) and path.name == "__init__.py":
        folder = path.parent / parts[length]
        candidates = [folder / "__init__.py", folder.with_suffix(".py")]
        path = next((file for file in candidates if file.is_file()), path)
        if path not in candidates:
            break
        length += 1
    # 2. The class or function in it, and a method within the class.
    module, names = ".".join(parts[:length]), parts[length:]
    if not names or path.suffix != ".py":
        return None
    found = _lookup(module, str(path), names[0])
    for name in names[1:]:
        found = None if found is None else _method(found, name)
    return found


def _lookup(module: str, path: str, name: str) -> Definition | None:
    """Return the definition of ``name``, which ``module`` contains or imports."""
    for statement in _parse(path):
        match statement:
            case ast.ClassDef(name=found) | ast.FunctionDef(name=found) if found == name:
                return Definition(module, statement)
            case ast.Assign(targets=[ast.Name(id=found)]) if found == name:
                return Definition(module, statement)
            case ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                return Definition(module, statement)
            case ast.ImportFrom(module=source, names=aliases, level=0):
                for alias in aliases:
                    if (alias.asname or alias.name) == name:
                        return _find(f"{source}.{alias.name}")
    return None


@functools.lru_cache(maxsize=256)
def _parse(path: str) -> list[ast.stmt]:
    """Return the statements of a file, with those in ``if TYPE_CHECKING:`` at the end."""
    body = ast.parse(Path(path).read_text(encoding="utf-8")).body
    return body + [inner for outer in body if isinstance(outer, ast.If) for inner in outer.body]


def _method(owner: Definition, name: str) -> Definition | None:
    """Return the method ``name`` of a class, or of the first of its bases that has it."""
    for cls in _with_bases(owner):
        for statement in cls.statement.body:  # type: ignore[attr-defined]
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                return Definition(cls.module, statement)
    return None


def _with_bases(cls: Definition) -> Iterator[Definition]:
    """Yield a class and, depth first, those of its bases that are in the same package."""
    if not isinstance(cls.statement, ast.ClassDef):
        return
    yield cls
    package = cls.module.split(".")[0]
    for base in cls.statement.bases:
        found = _resolve(cls.module, base)
        if found is not None and found.module.split(".")[0] == package:
            yield from _with_bases(found)


def _resolve(module: str, node: ast.expr) -> Definition | None:
    return _find(f"{module}.{node.id}") if isinstance(node, ast.Name) else None


def _parameters(found: Definition) -> Iterator[tuple[str, Any]]:
    """Yield names and defaults; where a name comes twice, the first counts."""
    statement = found.statement
    if isinstance(statement, ast.FunctionDef):
        yield from _arguments(found.module, statement.args)
    elif isinstance(statement, ast.ClassDef):
        for cls in _with_bases(found):
            body = cls.statement.body  # type: ignore[attr-defined]
            own = [s for s in body if isinstance(s, ast.FunctionDef) and s.name == "__init__"]
            if own:
                yield from _arguments(cls.module, own[0].args)
                if own[0].args.kwarg is None:
                    return
            elif any("dataclass" in ast.unparse(d) for d in cls.statement.decorator_list):  # type: ignore[attr-defined]
                yield from _fields(cls.module, body)


def _arguments(module: str, arguments: ast.arguments) -> Iterator[tuple[str, Any]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    without = len(positional) - len(arguments.defaults)
    defaults = [None] * without + list[ast.expr | None](arguments.defaults)
    for argument, default in (
        *zip(positional, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ):
        yield argument.arg, NOT_LITERAL if default is None else _literal(module, default)


def _fields(module: str, body: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    for statement in body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if statement.value is None:
                yield statement.target.id, NOT_LITERAL
            elif "ClassVar" not in ast.unparse(statement.annotation):
                yield statement.target.id, _field(module, statement.value)


def _field(module: str, value: ast.expr) -> Any:
    """Return the default of a dataclass field, which may be a call of ``dataclasses.field``."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field")):
        return _literal(module, value)
    options = {keyword.arg: keyword.value for keyword in value.keywords}
    if "default" in options:
        return _literal(module, options["default"])
    factory = options.get("default_factory")
    return NOT_LITERAL if factory is None else FACTORIES.get(ast.unparse(factory), NOT_LITERAL)


def _literal(module: str, node: ast.expr) -> Any:
    """Return the value of an expression that is a literal, or a constant that is one."""
    found = _resolve(module, node)
    if found is not None and isinstance(found.statement, ast.Assign | ast.AnnAssign):
        value = found.statement.value
        return NOT_LITERAL if value is None else _literal(found.module, value)
    with contextlib.suppress(ValueError, TypeError):
        return json.loads(json.dumps(ast.literal_eval(node)))  # tuples become lists
    return NOT_LITERAL
