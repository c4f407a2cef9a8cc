"""Signatures as schema: values are checked against the annotations of the parameters they go to.

A class states what it accepts once, in its signature: ``Annotated[int, Ge(1)]``, ``Literal["a",
"b"]``, ``float | None``. This module turns a value that does not fit into one sentence that names
the key, the allowed values and the value that was given. :func:`checked` does so for calls from
Python, :func:`check_arguments` for a node of a configuration before anything is built. Pydantic
validates, in strict mode: ``true`` is not a number, ``"3"`` is not 3, and NaN is never accepted.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

Function = TypeVar("Function", bound=Callable[..., Any])

STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
NUM_SUGGESTIONS = 3


def _existing(path: str) -> str:
    """Return ``path`` if it exists, and raise ``ValueError`` otherwise."""
    if not Path(path).expanduser().exists():
        raise ValueError(f"there is no such file or folder, seen from {Path.cwd()}")
    return path


PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
"""A number between 0 and 1, both included."""
ExistingPath = Annotated[str, AfterValidator(_existing)]
"""The path of a file or folder that exists."""


class SchemaError(ValueError):
    """A value that does not fit the annotation of the parameter it was given for."""


def convert(value: Any, annotation: Any, key: str) -> Any:
    """Return ``value`` as the type that ``annotation`` asks for, for example a list as a tuple.

    Args:
        value: anything; plain data (as YAML or JSON have it) may be converted, objects may not.
        annotation: a type, ``Annotated`` with ranges, ``Literal``, or a union of those. A type
            that Pydantic cannot check accepts everything.
        key: the name of the value in the error message.

    Raises:
        SchemaError: if the value does not fit.
    """
    adapter = _adapter(annotation)
    if adapter is None:
        return value
    try:
        if _is_plain(value):
            return adapter.validate_json(json.dumps(value))
        return adapter.validate_python(value)
    except ValidationError as error:
        own = [detail for detail in error.errors() if detail["type"] == "value_error"]
        if own:
            raise SchemaError(f"{key}={show(value)}: {own[0]['ctx']['error']}.") from None
        raise SchemaError(f"{key} must be {describe(annotation)}, got {show(value)}.") from None
    except TypeError:  # an isinstance check that Python does not support, as with some protocols
        return value


def checked(function: Function) -> Function:
    """Check the arguments of ``function`` against its annotations at each call.

    Put it on ``__init__`` for a class. The message names the class, or the function, and the
    parameter: "LossBreakdown.num_bins must be a positive integer, got 0."
    """
    name = function.__qualname__.removesuffix(".__init__").rsplit(".", 1)[-1]
    signature = inspect.signature(function)
    has_self = next(iter(signature.parameters), None) in ("self", "cls")
    annotations: dict[str, Any] = {}

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not annotations:  # resolved at the first call: later names may be needed
            annotations.update(_annotations(function))
        bound = signature.bind(*args, **kwargs)
        for parameter, value in list(bound.arguments.items())[has_self:]:
            kind = signature.parameters[parameter].kind
            if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                continue
            bound.arguments[parameter] = convert(
                value, annotations.get(parameter, Any), f"{name}.{parameter}"
            )
        return function(*bound.args, **bound.kwargs)

    return wrapper  # type: ignore[return-value]


def check_fields(instance: Any) -> None:
    """Check and convert the fields of a dataclass; to be called in ``__post_init__``.

    Raises:
        SchemaError: naming the class and the field.
    """
    cls = type(instance)
    annotations = _annotations(cls)
    for field in dataclasses.fields(cls):
        value = getattr(instance, field.name)
        found = convert(value, annotations[field.name], f"{cls.__name__}.{field.name}")
        object.__setattr__(instance, field.name, found)


def from_dict(cls: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Build the dataclass ``cls`` from a mapping, for example one that was read from a file.

    Raises:
        SchemaError: for an unknown or a missing key, or a value that does not fit.
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

    Args:
        target: the class or function that is going to be called.
        arguments: plain data by the names of the parameters.
        key: where the node stands in the configuration; it precedes the names in messages.
        is_partial: whether arguments may be missing because somebody else supplies them.
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
            close = did_you_mean(name, list(parameters))
            raise SchemaError(
                f"{prefix}{name}: there is no such key.{close} {target.__name__} takes "
                f"{', '.join(parameters)}."
            )
    # 2. Parameters without a default that were not given.
    missing = [
        prefix + name
        for name, parameter in parameters.items()
        if parameter.is_required and name not in arguments
    ]
    if missing and not is_partial:
        raise SchemaError(f"still needed: {' and '.join(missing)}.")
    # 3. Values.
    for name, value in arguments.items():
        if name in parameters and name not in skip:
            convert(value, parameters[name].annotation, prefix + name)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return " Did you mean X?" for the words of ``known`` that resemble ``word``, or nothing."""
    close = difflib.get_close_matches(word, known, NUM_SUGGESTIONS, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def show(value: Any) -> str:
    """Return ``value`` as it is written in YAML: null, true, [1, 2]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(show, value))}]"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def describe(annotation: Any) -> str:
    """Return what ``annotation`` allows, in words: "a positive integer or null"."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _describe_range(*get_args(annotation))
    if origin is Literal:
        choices = [show(choice).strip("'") for choice in get_args(annotation)]
        return _either(choices) if len(choices) < 3 else f"one of {', '.join(choices)}"
    if origin in (typing.Union, types.UnionType):
        members = list(_members(annotation))
        literal = tuple(c for m in members if get_origin(m) is Literal for c in get_args(m))
        others = [describe(m) for m in members if get_origin(m) is not Literal]
        literals = [describe(Literal[literal])] if literal else []
        # "null" comes last.
        return _either(sorted(dict.fromkeys([*literals, *others]), key="null".__eq__))
    if origin is tuple and Ellipsis not in get_args(annotation):
        parts = [describe(part) for part in get_args(annotation)]
        same = len(set(parts)) == 1
        what = f"each {parts[0]}" if same else ", ".join(parts)
        return f"a list of {len(parts)} values ({what})"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence | set):
        inner = next((part for part in get_args(annotation) if part is not Ellipsis), Any)
        return "a list" if inner is Any else f"a list in which each value is {describe(inner)}"
    if origin is not None and getattr(origin, "__name__", "") == "Callable":
        return "a function"
    words = {
        int: "an integer", float: "a number", str: "a string", bool: "true or false",
        Path: "a path", None: "null", type(None): "null", dict: "a mapping", list: "a list",
    }  # fmt: skip
    return words.get(annotation) or f"a {getattr(annotation, '__name__', annotation)}"


def _describe_range(base: Any, *constraints: Any) -> str:
    """Return the description of an annotated type, for example "a number between 0 and 1"."""
    low = next((c.ge for c in constraints if isinstance(c, Ge)), None)
    above = next((c.gt for c in constraints if isinstance(c, Gt)), None)
    high = next((c.le for c in constraints if isinstance(c, Le)), None)
    below = next((c.lt for c in constraints if isinstance(c, Lt)), None)
    if base is int and (low == 1 or above == 0) and high is None and below is None:
        return "a positive integer"
    if base is float and above == 0 and high is None and below is None:
        return "a positive number"
    bounds = []
    if low is not None and high is not None:
        bounds = [f"between {low:g} and {high:g}"]
    else:
        for bound, words in ((low, "of at least"), (above, "above"), (high, "of at most")):
            if bound is not None:
                bounds.append(f"{words} {bound:g}")
    if below is not None:
        bounds.append(f"below {below:g}")
    return " ".join([describe(base), " and ".join(bounds)]).strip()


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, and of the unions within it."""
    for member in get_args(annotation):
        if get_origin(member) in (typing.Union, types.UnionType):
            yield from _members(member)
        else:
            yield member


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


class _Parameter(NamedTuple):
    annotation: Any
    is_required: bool


@functools.lru_cache(maxsize=1024)
def _parameters(target: Callable[..., Any]) -> tuple[dict[str, _Parameter], bool]:
    """Return the parameters of ``target`` by name, and whether it takes others, too.

    The ``**kwargs`` of an ``__init__`` are looked up in the base classes, to which they go.
    """
    functions: list[Any] = [target]
    if isinstance(target, type) and not dataclasses.is_dataclass(target):
        functions = [c.__dict__["__init__"] for c in target.__mro__ if "__init__" in c.__dict__]
        functions = [f for f in functions if f is not object.__init__] or [target]
    found: dict[str, _Parameter] = {}
    for function in functions:
        annotations = _annotations(function)
        is_open = False
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                is_open = True
            elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL and name != "self":
                is_required = parameter.default is inspect.Parameter.empty
                found.setdefault(name, _Parameter(annotations.get(name, Any), is_required))
        if not is_open:
            return found, False
    return found, True


def _annotations(target: Any) -> dict[str, Any]:
    """Return the annotations of a function or dataclass, ``Any`` for those not to be resolved."""
    function = target if isinstance(target, type) else inspect.unwrap(target)
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        pass
    # Names that are imported for the type checker alone: the other annotations still count.
    names = vars(inspect.getmodule(function) or types)
    found: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        try:
            found[name] = (
                eval(annotation, dict(names)) if isinstance(annotation, str) else annotation
            )
        except (NameError, TypeError, AttributeError):
            found[name] = Any
    return found


def _is_plain(value: Any) -> bool:
    """Whether ``value`` is made of what YAML and JSON have."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, float) and not math.isfinite(value):
        return True  # JSON as Python writes it has NaN, and the adapter refuses it
    return value is None or type(value) in (bool, int, float, str)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """Return the validator of ``annotation``, or None if Pydantic cannot make one."""
    try:
        return _cached_adapter(annotation)
    except TypeError:  # not hashable, for example Literal within Annotated with a list
        return None


@functools.lru_cache(maxsize=1024)
def _cached_adapter(annotation: Any) -> TypeAdapter[Any] | None:
    if annotation in (Any, inspect.Parameter.empty):
        return None
    try:
        return TypeAdapter(annotation, config=STRICT)
    except PydanticUserError:
        try:  # a dataclass has a configuration of its own
            return TypeAdapter(annotation)
        except PydanticUserError:
            return None
    except (NameError, TypeError, AttributeError):
        return None
