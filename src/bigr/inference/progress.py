"""A progress bar for work that is done batch by batch."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from bigr.inference.units import duration, speed

log = logging.getLogger(__name__)

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
COUNTER = "{n_fmt}{unit} [{elapsed}, {rate_noinv_fmt}]"
"""Formats of tqdm with and without a total. Slow rates are not shown as seconds per unit."""
LINES_APART = 10.0
"""Seconds between two log lines where there is no terminal."""


@contextlib.contextmanager
def progress(total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """Yield a function that advances the bar; without a terminal it writes log lines instead.

    Log lines estimate the speed from the units after those that are reported first, because these
    may include preparations, such as the training of a classifier, or earlier work after an
    interruption.

    Args:
        total: number of units, or None if it is not known.
        unit: what is counted, in the plural.
    """
    if sys.stderr.isatty():
        shape = COUNTER if total is None else BAR
        with (
            logging_redirect_tqdm(),  # log lines appear above the bar
            tqdm(total=total, unit=f" {unit}", bar_format=shape, dynamic_ncols=True) as bar,
        ):
            yield bar.update
        return
    done = skipped = 0
    start = last = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, skipped, start, last
        now = time.monotonic()
        is_first = done == 0
        done = done + count if total is None else min(done + count, total)
        is_complete = done == total
        if count and (now - last >= LINES_APART or is_complete):
            last = now
            text = f"{done}/{total} {unit}"
            if total is None:
                text = f"{done} {unit.removesuffix('s') if done == 1 else unit}"
            if is_complete or not is_first:
                rate = (done - skipped) / max(now - start, 1e-9)
                text += f", {speed(rate, unit)}"
                if total and not is_complete:
                    text += f", {duration((total - done) / rate)} left"
            log.info("%s", text)
        if is_first:
            skipped, start = done, now

    yield advance
