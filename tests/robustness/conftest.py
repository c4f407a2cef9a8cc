"""How many cases run, and how long one may take.

``make fuzz`` runs all of them (``BIGR_FUZZ=1``), ``make test`` a part. Each case is counted; the
sum is the last line of the tests' output.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
from collections.abc import Hashable, Iterator
from pathlib import Path

import pytest

IS_COMPLETE = bool(os.environ.get("BIGR_FUZZ"))
SECONDS = 20
"""A case that takes longer hangs."""
MEMORY = 4 * 2**30
"""Bytes that a case may allocate in addition to what the process has."""


class HangError(BaseException):
    """A case took too long. No ``except Exception`` takes it for an error of the case."""


class Cases:
    """Counts distinct cases and limits each of them."""

    def __init__(self) -> None:
        self.seen: set[Hashable] = set()

    @staticmethod
    def number(complete: int, part: int) -> int:
        """Return how many cases to run, in ``make fuzz`` and otherwise."""
        return complete if IS_COMPLETE else part

    @contextlib.contextmanager
    def limited(self, *name: Hashable) -> Iterator[None]:
        """Count a case, and let it take only so much time and memory.

        Raises:
            HangError: if it takes longer than ``SECONDS``.
        """

        def stop(*_: object) -> None:
            raise HangError(f"{name} took longer than {SECONDS} s")

        self.seen.add(name)
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, hard))
        before = signal.signal(signal.SIGALRM, stop)
        faulthandler.dump_traceback_later(3 * SECONDS, exit=True)  # if it hangs in C
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, before)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> Iterator[Cases]:
    """Counts what a test runs; the sum over all tests is printed at the end."""
    counter = Cases()
    yield counter
    request.node.user_properties.append(("robustness_cases", len(counter.seen)))
