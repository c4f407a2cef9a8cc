"""Values against annotations: what is accepted, what is converted, and the sentence otherwise."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import os
import time
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Optional,
    Protocol,
    runtime_checkable,
)

import numpy as np
import numpy.typing as npt
import pytest
import torch
from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen
from omegaconf import OmegaConf
from pydantic import Field

from bigr.schema import (
    ExistingPath,
    Fraction,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SchemaError,
    check_arguments,
    check_fields,
    checked,
    convert,
    describe,
    did_you_mean,
    from_dict,
    show,
)
from tests.processes import fresh_python

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTheTypeChecker


class Order(Protocol):
    def scores(self) -> int: ...


@runtime_checkable
class Closable(Protocol):
    def close(self) -> None: ...


class Spiral:
    def scores(self) -> int:
        return 1


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Head:
    epochs: PositiveInt = 90
    momentum: float = 0.9


SPIRAL, HEAD, TENSOR, ARRAY = Spiral(), Head(), torch.ones(1), np.ones(1)
ACCEPTED: list[tuple[Any, Any, Any]] = [
    (1, int, 1),
    (10**30, int, 10**30),
    (1, float, 1.0),
    (1e300, float, 1e300),
    (None, Optional[int], None),  # noqa: UP045
    (None, int | None, None),
    ([1, 2], tuple[int, ...], (1, 2)),
    ([1, 2], tuple[int, int], (1, 2)),
    ((1, 2), list[int], [1, 2]),
    ([1], collections.abc.Sequence[int], [1]),
    ({"a": 1}, dict[str, int], {"a": 1}),
    ({"a": 1}, collections.abc.Mapping[str, int], {"a": 1}),
    (OmegaConf.create([1, 2]), tuple[int, ...], (1, 2)),
    (OmegaConf.create([1, 2]), collections.abc.Sequence[int], [1, 2]),
    (OmegaConf.create({"a": 1}), dict[str, int], {"a": 1}),
    ("a", Literal["a", "b"], "a"),
    (16, Literal["16-mixed", 16], 16),
    ("a/b", Path, Path("a/b")),
    (Path("a"), str | Path, Path("a")),
    (".", ExistingPath, "."),
    (SPIRAL, Order, SPIRAL),
    (SPIRAL, Literal["raster"] | Order, SPIRAL),
    (HEAD, Head | None, HEAD),
    (TENSOR, float | torch.Tensor, TENSOR),
    (ARRAY, npt.NDArray[np.float32], ARRAY),
    (print, collections.abc.Callable[[str], None], print),
    (Spiral, type[Spiral], Spiral),
    (Colour.RED, Colour, Colour.RED),
    ("anything", Any, "anything"),
    ("anything", "Undefined", "anything"),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), ACCEPTED, ids=range(len(ACCEPTED)))
def test_accepted(value: Any, annotation: Any, expected: Any) -> None:
    found = convert(value, annotation, "key")
    assert found is expected or (found == expected and type(found) is type(expected))


REFUSED: list[tuple[Any, Any, str]] = [
    (True, int, "key must be an integer, got true."),
    (1.0, int, "key must be an integer, got 1.0."),
    ("1", int, "key must be an integer, got '1'."),
    (None, int, "key must be an integer, got null."),
    (True, float, "key must be a number, got true."),
    ("fast", float, "key must be a number, got 'fast'."),
    (float("nan"), float, "key must be a number, got nan."),
    (float("inf"), float | None, "key must be a number or null, got inf."),
    ("maybe", bool, "key must be true or false, got 'maybe'."),
    (1, bool, "key must be true or false, got 1."),
    (3, str, "key must be a string, got 3."),
    (None, str, "key must be a string, got null."),
    (3, Path, "key must be a path, got 3."),
    (0, PositiveInt, "key must be a positive integer, got 0."),
    (0, PositiveInt | None, "key must be a positive integer or null, got 0."),
    (-1, NonNegativeInt, "key must be an integer of at least 0, got -1."),
    (0.0, PositiveFloat, "key must be a positive number, got 0.0."),
    (2, Fraction, "key must be a number between 0 and 1, got 2."),
    (float("nan"), Fraction, "key must be a number between 0 and 1, got nan."),
    (99999999, Annotated[int, Ge(1), Le(16777216)], "an integer between 1 and 16777216, got 9999"),
    (1, Annotated[int, Gt(3)], "key must be an integer above 3, got 1."),
    (3, Annotated[float, Lt(2.5)], "key must be a number below 2.5, got 3."),
    (5, Annotated[int, Interval(ge=2, lt=5)], "an integer of at least 2 and below 5, got 5."),
    (0, Annotated[int, Field(ge=1)], "key must be a positive integer, got 0."),
    ([], Annotated[list[str], MinLen(1)], "a non-empty list in which each value is a string"),
    ("c", Literal["a", "b"], "key must be a or b, got 'c'."),
    ("d", Literal["a", "b", "c"], "key must be one of a, b, c, got 'd'."),
    (1, Literal["a"] | Literal["b"] | None, "key must be a or b or null, got 1."),
    ([1, "a"], list[int], "key must be a list in which each value is an integer, got [1, 'a']."),
    ("ab", list[str], "key must be a list in which each value is a string, got 'ab'."),
    (3, list[list[int]], "must be a list of lists in which each value is an integer, got 3."),
    (3, os.PathLike, "key must be a path, got 3."),
    ("ab", collections.abc.Sequence[str], "a list in which each value is a string, got 'ab'."),
    ([1, 2, 3], tuple[int, int], "a list of 2 values (each an integer), got [1, 2, 3]."),
    ([1, 2], tuple[int, str], "a list of 2 values (an integer, a string), got [1, 2]."),
    ({"a": "b"}, dict[str, int], "key must be a mapping, got {a: 'b'}."),
    (5, collections.abc.Iterable[int], "key must be an Iterable, got 5."),
    ("nowhere", ExistingPath, "key=nowhere: there is no such file or folder, seen from "),
    ("nowhere", ExistingPath | None, "key=nowhere: there is no such file or folder, seen from "),
    (5, ExistingPath | None, "key must be a string or null, got 5."),
    ("raster", Order, "key must be an Order, got 'raster'."),
    ("bogus", Order | Literal["raster"], "key must be raster or an Order, got 'bogus'."),
    (None, Order | Literal["raster"], "key must be raster or an Order, got null."),
    (3, Closable, "key must be a Closable, got 3."),
    ({"epochs": 1}, Head, "key must be a Head, got {epochs: 1}."),
    ("x", float | torch.Tensor, "key must be a number or a Tensor, got 'x'."),
    ("x", npt.NDArray[np.float32], "key must be an ndarray, got 'x'."),
    ("print", collections.abc.Callable[[str], None], "key must be a function, got 'print'."),
    (3, type[Spiral], "key must be a class, got 3."),
    ("red", Colour, "key must be a Colour, got 'red'."),
    ("x" * 1000, int, "…."),
]


@pytest.mark.parametrize(("value", "annotation", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(value: Any, annotation: Any, message: str) -> None:
    with pytest.raises(SchemaError) as error:
        convert(value, annotation, "key")
    assert message in str(error.value)
    assert len(str(error.value)) < 400
    assert str(error.value).endswith((".", str(Path.cwd()) + "."))


class Callback:
    @checked
    def __init__(self, count: PositiveInt, *rest: int, names: tuple[str, ...] = (), **more: Any):
        self.count, self.rest, self.names, self.more = count, rest, names, more

    @classmethod
    @checked
    def named(cls, count: PositiveInt, unknown: OnlyForTheTypeChecker | None = None) -> Callback:
        return cls(count)

    @staticmethod
    @checked
    def twice(value: int) -> int:
        return 2 * value


class Detailed(Callback):
    def __init__(self, level: Literal["low", "high"] = "low", **more: Any):
        super().__init__(**more)
        self.level = level


def test_checked_calls() -> None:
    found = Callback(2, 3, 4, names=["a"], other=None)  # type: ignore[arg-type]
    assert (found.count, found.rest, found.names, found.more) == (
        2,
        (3, 4),
        ("a",),
        {"other": None},
    )
    assert Callback.named(3, "not resolved").count == 3  # type: ignore[arg-type]
    assert Callback.twice(2) == 4
    with pytest.raises(SchemaError, match=r"^Callback.count must be a positive integer, got 0\.$"):
        Callback(0)
    with pytest.raises(SchemaError, match=r"^named.count must be a positive integer, got null\.$"):
        Callback.named(None)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match=r"^twice.value must be an integer, got 1.5\.$"):
        Callback.twice(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing a required argument: 'count'"):
        Callback()  # type: ignore[call-arg]


def test_fields_of_a_dataclass() -> None:
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        shape: tuple[int, ...] = (1,)
        name: str | None = None

        def __post_init__(self) -> None:
            check_fields(self)

    assert Sizes([1, 2]).shape == (1, 2)  # type: ignore[arg-type]
    assert from_dict(Sizes, {"shape": [3]}) == Sizes((3,))
    with pytest.raises(SchemaError, match=r"^Sizes.name must be a string or null, got 3\.$"):
        Sizes(name=3)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match=r"^Sizes.shap: there is no such key. Did you mean shape"):
        from_dict(Sizes, {"shap": [3]})


def problem(target: Any, arguments: dict[str, Any], **options: Any) -> str:
    try:
        check_arguments(target, arguments, "node", **options)
    except SchemaError as error:
        return str(error)
    return ""


def test_arguments_of_a_class_of_a_user() -> None:
    assert problem(Callback, {"count": 1, "anything": 2}) == ""
    assert problem(Callback, {}) == "still needed: node.count."
    assert problem(Callback, {}, is_partial=True) == ""
    assert problem(Callback, {"count": "no"}, skip=["count"]) == ""
    # The keyword arguments of a subclass are those of its base class.
    assert problem(Detailed, {"level": "high", "count": 1}) == ""
    assert problem(Detailed, {}) == ""
    assert problem(Detailed, {"count": 0}) == "node.count must be a positive integer, got 0."
    assert problem(Detailed, {"level": "no"}) == "node.level must be low or high, got 'no'."


def test_arguments_of_functions_and_nested_dataclasses() -> None:
    def train(head: Head, steps: int = None, *, name: str = "x") -> None:  # type: ignore[assignment]  # noqa: RUF013
        """Annotated as code was before ``int | None``."""

    assert problem(train, {"head": {"epochs": 2}, "steps": None}) == ""
    assert problem(train, {"head": {"epochs": 0}}).startswith("node.head.epochs must be a positive")
    assert problem(train, {"head": {"epoch": 0}}).startswith("node.head.epoch: there is no such ke")
    assert problem(train, {"head": HEAD, "zzz": 0}).endswith("train takes head, steps, name.")
    assert problem(max, {"anything": 0}) == "", "it has no signature"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 1e-3, "betas": [0.9, 0.95], "fused": None}, ""),
        ({"lr": "fast"}, "node.lr must be a number or a Tensor, got 'fast'."),
        ({"lr": None}, "node.lr must be a number or a Tensor, got null."),
        ({"betas": [0.9]}, "node.betas must be a list of 2 values (each a number or a Tensor)"),
        ({"fused": "maybe"}, "node.fused must be true or false or null, got 'maybe'."),
        ({"learning_rate": 1}, "node.learning_rate: there is no such key."),
    ],
)
def test_torch_optimiser(arguments: dict[str, Any], message: str) -> None:
    found = problem(torch.optim.Adam, arguments, is_partial=True)
    assert found.startswith(message)
    assert bool(found) == bool(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "bf16-mixed", "devices": "auto", "max_steps": -1, "strategy": "ddp"}, ""),
        ({"precision": 32, "devices": [0, 1], "val_check_interval": 0.5, "max_epochs": None}, ""),
        ({"precision": "17"}, "node.precision must be one of "),
        ({"max_steps": "ten"}, "node.max_steps must be an integer, got 'ten'."),
        ({"devices": 1.5}, "node.devices must be a list in which each value is an integer, a str"),
        ({"max_step": 3}, "node.max_step: there is no such key. Did you mean max_steps"),
    ],
)
def test_lightning_trainer(arguments: dict[str, Any], message: str) -> None:
    import lightning

    found = problem(lightning.Trainer, arguments)
    assert found.startswith(message)
    assert bool(found) == bool(message)


def test_words() -> None:
    assert show([None, True, {"a": 1.5}, "b"]) == "[null, true, {a: 1.5}, 'b']"
    assert describe(int | None | Literal["auto"]) == "auto, an integer or null"
    assert describe(collections.abc.Callable[[], int]) == "a function"
    assert did_you_mean("modle", ["model", "data"]) == " Did you mean model?"
    assert did_you_mean("zzz", ["model", "data"]) == ""


def test_checking_is_cheap() -> None:
    convert([1, 2], tuple[int, ...], "key")
    start = time.perf_counter()
    for _ in range(1000):
        convert([1, 2], tuple[int, ...], "key")
    assert time.perf_counter() - start < 1, "a microsecond each; the validator must be cached"


def test_torch_is_not_imported(tmp_path: Path) -> None:
    found = fresh_python(
        "-c", "import bigr.schema, sys; print('torch' in sys.modules)", cwd=tmp_path
    )
    assert found.stdout == "False\n", found.stderr
