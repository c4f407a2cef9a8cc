"""Finds the places where the host would wait for a GPU, on a machine that has none.

Operations on a GPU are queued, and the host runs ahead of them. It has to wait when it needs a
value of a tensor (``.item()``, ``.tolist()``, ``if tensor``), when the shape of a result depends on
values (``nonzero``, indexing with a mask), and when a tensor is copied to the host.
:class:`HostWaits` records every such operation on CPU tensors, with the function that called it.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import bigr

SOURCE = Path(bigr.__file__).parent
PACKAGES = Path(torch.__file__).parents[1]
VALUES = (
    "_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "nonzero_numpy",
    "argwhere", "masked_select", "unique_dim", "unique_consecutive", "_unique", "_unique2",
    "bincount", "histc", "multinomial", "linalg_eigvals", "linalg_eig",
)  # fmt: skip
"""Operators that read values of a tensor on the host, or whose result has a shape that depends on
them. ``multinomial`` checks its input."""
WITH_INDICES = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
COPIES = ("cpu", "numpy", "tolist", "__array__")
"""Methods that copy a tensor to the host. On a CPU tensor they dispatch nothing."""


class Place(NamedTuple):
    """A function that makes the host wait."""

    file: str
    """Path of the file, relative to the package, or to site-packages for other packages."""
    function: str

    def __str__(self) -> str:
        return f"{self.file}: {self.function}"


class HostWaits:
    """A context that records where the host would wait for a GPU.

    ``found`` maps each place to the line number and the operators of its last wait. A place is the
    innermost function of this package on the stack, or otherwise the innermost function at all.
    """

    def __init__(self) -> None:
        self.found: dict[Place, tuple[int, set[str]]] = {}
        self._modes: tuple[Any, ...] = (_Values(self), _Copies(self))

    def __enter__(self) -> HostWaits:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def add(self, operator: str) -> None:
        """Record that ``operator`` was called by the functions that are running now."""
        place, line = _caller()
        operators = self.found[place][1] if place in self.found else set()
        self.found[place] = (line, operators | {operator})

    def report(self) -> list[str]:
        """Return a line such as ``training/x.py:12 in f: nonzero`` for each place."""
        return sorted(
            f"{place.file}:{line} in {place.function}: {', '.join(sorted(operators))}"
            for place, (line, operators) in self.found.items()
        )


class _Values(TorchDispatchMode):
    def __init__(self, owner: HostWaits) -> None:
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        has_mask = name in WITH_INDICES and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
        )
        # With the number of results given, the host does not have to read the repeats.
        has_repeats = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in VALUES or has_mask or has_repeats:
            self.owner.add(name)
        return func(*args, **(kwargs or {}))


class _Copies(TorchFunctionMode):
    def __init__(self, owner: HostWaits) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        given = [*args[1:], *(kwargs or {}).values()]
        # A device object may be that of the trainer, in whose place a GPU would be.
        is_moved = name == "to" and "cpu" in [value for value in given if isinstance(value, str)]
        if name in COPIES or is_moved:
            self.owner.add(name)
        return func(*args, **(kwargs or {}))


def _caller() -> tuple[Place, int]:
    """Return the innermost function of the package, or of any other one, and its line."""
    frame: FrameType | None = inspect.currentframe()
    other: tuple[Place, int] | None = None
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        name = frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name
        if path == Path(__file__):
            frame = frame.f_back
            continue
        if path.is_relative_to(SOURCE):
            return Place(str(path.relative_to(SOURCE)), name.rpartition(".")[2]), frame.f_lineno
        is_torch = path.is_relative_to(PACKAGES / "torch")
        if other is None and not is_torch and path.is_file():
            root = PACKAGES if path.is_relative_to(PACKAGES) else path.parent
            other = Place(str(path.relative_to(root)), name.rpartition(".")[2]), frame.f_lineno
        frame = frame.f_back
    return other or (Place("?", "?"), 0)


def mutated(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """Return a copy of a function of the package in whose source ``old`` is replaced by ``new``.

    Raises:
        ValueError: unless ``old`` occurs exactly once.
    """
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(old) != 1:
        raise ValueError(f"{function.__qualname__} contains {source.count(old)} times {old!r}.")
    space = dict(function.__globals__)
    # The file name keeps reports readable: line numbers start at those of the function.
    lines = "\n" * (function.__code__.co_firstlineno - 1)
    exec(compile(lines + source.replace(old, new), function.__code__.co_filename, "exec"), space)
    changed: Callable[..., Any] = space[function.__name__]
    return changed
