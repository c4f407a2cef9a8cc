"""The processes of a command: one, or several started by torchrun, SLURM or Lightning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those that share the work."""

    rank: int = 0
    count: int = 1
    barrier: Callable[[], object] = lambda: None
    """Waits until every process has called it."""
    broadcast: Callable[[Any], Any] = lambda value: value
    """Returns the value of the first process in every process."""
    gather: Callable[[Any], list[Any]] = lambda value: [value]
    """Returns the values of all processes in every process."""
    device: str | None = None
    """Device of this process, if there are several processes."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


ALONE = Processes()
