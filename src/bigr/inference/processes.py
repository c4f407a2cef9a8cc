"""The processes of a command: one, or several that torchrun, SLURM or Lightning started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Processes:
    """Where this one stands among them."""

    rank: int = 0
    count: int = 1
    barrier: Callable[[], object] = lambda: None
    """Waits for all of them."""
    broadcast: Callable[[Any], Any] = _same
    """Gives the first one's value to all."""

    gather: Callable[[Any], list[Any]] = lambda value: [value]
    """Gives all values to all."""
    device: str | None = None
    """Of this one, if there are several."""

    @property
    def is_first(self) -> bool:
        """Whether this one writes and prints."""
        return self.rank == 0


ALONE = Processes()
