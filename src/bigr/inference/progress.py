"""A progress bar for work that is done batch by batch."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

log = logging.getLogger(__name__)

LINES_APART = 10.0
"""Seconds between two log lines where there is no terminal."""


@contextlib.contextmanager
def progress(total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """Yield a function that advances the bar; without a terminal it writes log lines instead.

    Args:
        total: number of units, or None if it is not known.
        unit: what is counted, in the plural.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, unit=f" {unit}", dynamic_ncols=True) as bar:
            yield bar.update
        return
    done = 0
    start = last = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        now = time.monotonic()
        done = done + count if total is None else min(done + count, total)
        if count and (now - last >= LINES_APART or done == total):
            last = now
            rate = done / max(now - start, 1e-9)
            of = "" if total is None else f"/{total}"
            left = f", {((total or 0) - done) / rate:.0f} s left" if done < (total or 0) else ""
            log.info("%d%s %s, %.3g/s%s", done, of, unit, rate, left)

    yield advance
