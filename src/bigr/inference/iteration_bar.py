"""A progress bar that counts the iterations of the sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm

from bigr.sampling.sampler import Progress, ProgressCallback


class IterationBar:
    """A callback for ``on_iteration`` that shows how many iterations of all batches are done.

    Args:
        total: number of iterations of all batches.
        config: arguments of :class:`tqdm.tqdm`.
        on_iteration: another callback, which is called before the bar advances.
    """

    def __init__(
        self, total: int, config: Mapping[str, Any], on_iteration: ProgressCallback | None
    ) -> None:
        self.bar = tqdm(**{"total": total, **config})
        self.on_iteration = on_iteration

    def __call__(self, state: Progress) -> None:
        """Advance by one iteration, and close the bar after the last one."""
        if self.on_iteration is not None:
            self.on_iteration(state)
        self.bar.update()
        if self.bar.n == self.bar.total:
            self.bar.close()
