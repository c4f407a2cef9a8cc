"""Signatures are the schema: values are checked against the annotations of their parameters.

A class states what it accepts once, in its signature: ``Annotated[int, Ge(1)]``, ``Literal["a",
"b"]``, ``float | None``. This module turns a value that does not fit into one sentence that names
the key, the allowed values and the given value. :func:`checked` and :func:`check_fields` do so for
calls from Python, :func:`check_arguments` for a node of a configuration before anything is built.
Pydantic validates in strict mode: ``true`` is not a number, ``"3"`` is not 3, and NaN and infinity
are never accepted. This module does not import torch, and Pydantic only when it is needed: a
misspelled key is reported without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import inspect
import operator
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

Function = TypeVar("Function", bound=Callable[..., Any])
T = TypeVar("T")

STRICT: ConfigDict = {"strict": True, "allow_inf_nan": False, "arbitrary_types_allowed": True}
UNIONS = (typing.Union, types.UnionType)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
NUM_SUGGESTIONS = 3
MILLION = 1_000_000
WORDS = {
    int: "an integer", float: "a number", str: "a string", bool: "true or false", Path: "a path",
    type(None): "null", Any: "anything", tuple: "a list", Callable: "a function", type: "a class",
    os.PathLike: "a path",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Check:
    """Metadata of an annotated type: a further condition.

    Args:
        function: returns the value, or raises ``ValueError`` with the condition that it violates.
    """

    function: Callable[[Any], Any]


def _existing(path: str) -> str:
    """Return ``path`` if it exists, and raise ``ValueError`` otherwise."""
    if not Path(path).expanduser().exists():
        raise ValueError(f"there is no such file or folder, seen from {Path.cwd()}")
    return path


def _not_huge(value: float) -> float:
    """Return ``value``, and raise ``ValueError`` if it is above a million."""
    if value > MILLION:
        raise ValueError(f"it must be at most {MILLION:,}")
    return value


def _object(value: Any) -> Any:
    """Return ``value`` unless it is plain data, as a configuration has it instead of an object."""
    if value is None or isinstance(value, bool | int | float | str | list | tuple | dict):
        raise AssertionError
    return value


def _listed(value: Any) -> Any:
    """Return a list of OmegaConf as a Python list, and anything else as it is."""
    return list(value) if type(value).__module__.startswith("omegaconf") else value


PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
"""A number between 0 and 1, both included."""
NOT_HUGE = Check(_not_huge)
"""Excludes numbers with which logits overflow, or a loop never ends."""
ImageCount = Annotated[int, Ge(1), NOT_HUGE]
"""A number of images that fits into memory as a list."""
ExistingPath = Annotated[str, Check(_existing)]
"""The path of a file or folder that exists."""


class SchemaError(ValueError):
    """A value that does not fit the annotation of its parameter."""


def convert(value: Any, annotation: Any, key: str) -> Any:
    """Return ``value`` as the type that ``annotation`` asks for.

    Lists become tuples where the annotation says so, and strings become paths. Nothing else is
    converted.

    Args:
        value: anything.
        annotation: a type, ``Annotated`` with ranges, ``Literal``, or a union of those. A type
            that Pydantic cannot check accepts everything.
        key: the name of the value in the error message.

    Raises:
        SchemaError: if the value does not fit.
    """
    from pydantic import ValidationError

    try:
        adapter = _adapter(annotation)
    except TypeError:  # not hashable
        adapter = inspect.unwrap(_adapter)(annotation)
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        own = [detail for detail in error.errors() if detail["type"] == "value_error"]
        if own:
            raise SchemaError(f"{key}={str(value)[:200]}: {own[0]['ctx']['error']}.") from None
        raise SchemaError(f"{key} must be {describe(annotation)}, got {show(value)}.") from None


def checked(function: Function) -> Function:
    """Check the arguments of ``function`` against its annotations at each call.

    Put it on ``__init__`` for a class, and below ``@classmethod`` or ``@staticmethod``. The message
    names the class, or the function, and the parameter: "LossBreakdown.num_bins must be a positive
    integer, got 0."
    """
    owner = function.__qualname__.removesuffix(".__init__").rsplit(".", 1)[-1]
    signature = inspect.signature(function)
    names = [name for name, part in signature.parameters.items() if part.kind not in VARIADIC]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        annotations = _annotations(function)  # at the call, because they may name later classes
        for name in names:
            if name in annotations and name in bound.arguments:
                value = bound.arguments[name]
                bound.arguments[name] = convert(value, annotations[name], f"{owner}.{name}")
        return function(*bound.args, **bound.kwargs)

    return wrapper  # type: ignore[return-value]


def check_fields(instance: Any) -> None:
    """Check and convert the fields of a dataclass; call it in ``__post_init__``.

    Raises:
        SchemaError: naming the class and the field.
    """
    cls: Any = type(instance)
    annotations = _annotations(cls)
    for field in dataclasses.fields(cls):
        value = getattr(instance, field.name)
        found = convert(value, annotations[field.name], f"{cls.__name__}.{field.name}")
        object.__setattr__(instance, field.name, found)


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build ``cls`` from a mapping, for example one that was read from a file.

    Raises:
        SchemaError: if a key is unknown or missing, or a value does not fit.
    """
    check_arguments(cls, values, cls.__name__)
    return cls(**values)


def check_arguments(
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    key: str,
    *,
    is_partial: bool = False,
    skip: Sequence[str] = (),
) -> None:
    """Check the arguments of a node of a configuration against the signature of its target.

    A mapping that is given for a dataclass is checked in the same way.

    Args:
        target: the class or function that is going to be called.
        arguments: plain data by the names of the parameters.
        key: where the node stands in the configuration; it precedes the names in messages.
        is_partial: whether arguments may be missing because the caller supplies them.
        skip: arguments whose values are not checked, only their names.

    Raises:
        SchemaError: one sentence about the first problem.
    """
    try:
        parameters, is_open = _parameters(target)
    except (TypeError, ValueError):  # some functions written in C have no signature
        return
    prefix = f"{key}." if key else ""
    # 1. Names that the target does not have.
    for name in arguments:
        if name not in parameters and not is_open:
            takes = f" {target.__name__} takes {', '.join(parameters) or 'no arguments'}."
            hint = did_you_mean(name, list(parameters)) or takes
            raise SchemaError(f"{prefix}{name}: there is no such key.{hint}")
    # 2. Parameters without a default that were not given.
    required = [name for name, part in parameters.items() if part.default is part.empty]
    missing = [prefix + name for name in required if name not in arguments]
    if missing and not is_partial:
        raise SchemaError(f"still needed: {' and '.join(missing)}.")
    # 3. Values. A default is right even where the annotation is not, as in "size: int = None".
    for name, value in arguments.items():
        parameter = parameters.get(name)
        if parameter is None or name in skip or (value is None and parameter.default is None):
            continue
        fields = [part for part in _members(parameter.annotation) if dataclasses.is_dataclass(part)]
        if fields and isinstance(value, Mapping):
            check_arguments(fields[0], value, prefix + name)  # type: ignore[arg-type]
        else:
            convert(value, parameter.annotation, prefix + name)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return " Did you mean X?" for the words of ``known`` that resemble ``word``, or nothing."""
    close = difflib.get_close_matches(word, known, NUM_SUGGESTIONS, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def show(value: Any) -> str:
    """Return ``value`` as it is written in YAML, shortened: ``null``, ``true``, ``[1, 2]``."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(map(show, value))}]"
    elif isinstance(value, dict):
        text = f"{{{', '.join(f'{name}: {show(item)}' for name, item in value.items())}}}"
    else:
        text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def describe(annotation: Any) -> str:
    """Return what ``annotation`` allows, in words: "a positive integer or null"."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe_range(describe(parts[0]), parts[1:])
    if origin is Literal:
        choices = list(dict.fromkeys(show(choice).strip("'") for choice in parts))
        return _either(choices) if len(choices) < 3 else f"one of {', '.join(choices)}"
    if origin in UNIONS:
        # All literals together, and "null" at the end, unless it could belong to what precedes it.
        members = [get_args(m) if get_origin(m) is Literal else m for m in parts]
        literal = tuple(choice for m in members if isinstance(m, tuple) for choice in m)
        words = [describe(Literal[literal])] if literal else []
        words += [describe(m) for m in members if not isinstance(m, tuple)]
        is_first = any(word.startswith("a list") and " or " in word for word in words)
        return _either(sorted(dict.fromkeys(words), key="null".__eq__, reverse=is_first))
    kind = annotation if origin is None else origin
    if kind is tuple and parts and Ellipsis not in parts:
        inner = list(dict.fromkeys(map(describe, parts)))
        return f"a list of {len(parts)} values ({'each ' * (len(inner) == 1)}{', '.join(inner)})"
    if kind in WORDS:
        noun = WORDS[kind]
    elif isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping"
    elif isinstance(kind, type) and issubclass(kind, Sequence | set | frozenset):
        noun = "a list"
    else:
        name = getattr(kind, "__name__", str(kind))
        noun = f"{'an' if name.startswith((*'AEIOU', 'nd')) else 'a'} {name}"
    if noun != "a list" or not parts or parts[0] is Any:
        return noun
    value = describe(parts[0])
    if value.startswith("a list"):
        return f"a list of lists{value.removeprefix('a list')}"
    return f"a list in which each value is {value}"


def _describe_range(noun: str, metadata: Sequence[Any]) -> str:
    """Return the description of an annotated type, for example "a number between 0 and 1"."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds: dict[str, Any] = {}
    for item in metadata:
        # Pydantic's Field and Interval hold several constraints.
        for constraint in getattr(item, "metadata", [item]):
            found = {name: getattr(constraint, name, None) for name in words}
            bounds |= {name: bound for name, bound in found.items() if bound is not None}
            if getattr(constraint, "min_length", None):
                noun = noun.replace("a ", "a non-empty ", 1)
    if bounds == {"gt": 0} or (noun, bounds) == ("an integer", {"ge": 1}):
        return f"a positive {noun.split()[-1]}"
    if {"ge", "le"} <= bounds.keys():
        return f"{noun} between {bounds['ge']} and {bounds['le']}"
    limits = " and ".join(f"{words[name]} {bound}" for name, bound in bounds.items())
    return f"{noun} {'of ' * limits.startswith('at ')}{limits}".strip()


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or ``annotation`` alone."""
    return get_args(annotation) if get_origin(annotation) in UNIONS else (annotation,)


def _either(words: Sequence[str]) -> str:
    """Join words as "a", "a or b", or "a, b or c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


@functools.lru_cache(maxsize=1024)
def _parameters(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the parameters of ``target`` by name, and whether it also accepts other names.

    A subclass usually passes the ``**kwargs`` of its ``__init__`` on to its base class, so the
    parameters of the base class are known as well. It may also keep them for itself.
    """
    functions: list[Any] = [target]
    if isinstance(target, type) and not dataclasses.is_dataclass(target):
        functions = [c.__dict__["__init__"] for c in target.__mro__ if "__init__" in c.__dict__]
        functions = [f for f in functions if f is not object.__init__] or [target]
    found: dict[str, inspect.Parameter] = {}
    for function in functions:
        annotations = _annotations(function)
        parameters = inspect.signature(function).parameters
        is_open = any(part.kind is part.VAR_KEYWORD for part in parameters.values())
        for name, parameter in parameters.items():
            if parameter.kind not in VARIADIC and name not in ("self", *found):
                found[name] = parameter.replace(annotation=annotations.get(name, Any))
                if function is not functions[0] and parameter.default is parameter.empty:
                    found[name] = found[name].replace(default=...)  # the subclass may supply it
        if not is_open:
            break
    return found, is_open or function is not functions[0]


@functools.lru_cache(maxsize=1024)
def _annotations(target: Any) -> dict[str, Any]:
    """Return the annotations of a function or a dataclass; those that fail to resolve are Any."""
    target = inspect.unwrap(target)
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        pass
    # Some names are imported for the type checker alone: resolve one annotation after the other.
    found: dict[str, Any] = {}
    for owner in reversed(target.__mro__) if isinstance(target, type) else [target]:
        module = sys.modules.get(owner.__module__)
        names = {**vars(typing), **vars(module or types)}
        for name, annotation in inspect.get_annotations(owner).items():
            try:
                found[name] = eval(annotation, names) if isinstance(annotation, str) else annotation
            except (NameError, TypeError, AttributeError, SyntaxError):
                found[name] = Any
    return found


@functools.lru_cache(maxsize=1024)
def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """Return the validator of ``annotation``, or None if Pydantic cannot make one."""
    if annotation in (Any, inspect.Parameter.empty) or isinstance(annotation, str):
        return None
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    for config in (STRICT, None):  # Pydantic refuses a configuration for a dataclass alone
        with contextlib.suppress(PydanticUserError, NameError, TypeError, AttributeError):
            return TypeAdapter(_checkable(annotation), config=config)
    return None


def _checkable(annotation: Any) -> Any:
    """Return ``annotation`` with the parts replaced that Pydantic would convert or consume.

    Lists and mappings may come as any container, among them those of OmegaConf, while their values
    stay strict. Pydantic would build a dataclass from a dictionary and wrap an iterable; here,
    both are checked with ``isinstance``, as is any generic class. A protocol accepts every object.
    """
    from pydantic import AfterValidator, BeforeValidator, InstanceOf, Strict

    origin, parts = get_origin(annotation), get_args(annotation)
    inner: Any = tuple(map(_checkable, parts))
    kind: Any = annotation if origin is None else origin
    instance_of: Any = InstanceOf
    if origin is Annotated:
        metadata = [AfterValidator(m.function) if isinstance(m, Check) else m for m in parts[1:]]
        inner = (inner[0], *metadata)
        return kind[inner]
    if origin in UNIONS:
        return functools.reduce(operator.or_, inner)
    if kind in (list, tuple, set, frozenset, dict, Mapping):
        container: Any = dict if kind is Mapping else kind
        return Annotated[container[inner] if parts else container, Strict(False)]
    if kind is Path:
        return Annotated[Path, Strict(False)]
    if kind is Sequence and parts:
        return Annotated[Sequence[inner], BeforeValidator(_listed)]
    if kind in (Literal, Callable, type) or not isinstance(kind, type):
        return annotation
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return Annotated[Any, AfterValidator(_object)]
    is_abstract = kind.__module__ == "collections.abc"
    if is_abstract or origin or dataclasses.is_dataclass(kind):
        return instance_of[kind]
    return kind
