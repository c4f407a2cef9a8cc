"""A bar for work that is done batch by batch."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

log = logging.getLogger(__name__)

LINES_APART = 10.0
"""Seconds between two lines where there is no terminal."""


@contextlib.contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Gives a function that moves the bar on; lines instead where there is no terminal."""
    if sys.stderr.isatty():
        with tqdm(total=total, unit=f" {unit}", dynamic_ncols=True) as bar:
            yield bar.update
        return
    done = 0
    start = last = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        now = time.monotonic()
        done = min(done + count, total)
        if count and (now - last >= LINES_APART or done == total):
            last = now
            rate = done / max(now - start, 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if done < total and rate > 0 else ""
            log.info("%d/%d %s, %.3g/s%s", done, total, unit, rate, left)

    yield advance
