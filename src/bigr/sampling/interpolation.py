"""Interpolation: a number for every iteration, from a few numbers at evenly spaced points."""

from __future__ import annotations

from collections.abc import Sequence


def interpolated(values: Sequence[float], iteration: int, num_iterations: int) -> float:
    """Return the number for ``iteration`` in 1..n, on straight lines between ``values``.

    The first value belongs to iteration 1 and the last one to iteration n. A single iteration gets
    the first value.
    """
    position = (len(values) - 1) * (iteration - 1) / max(num_iterations - 1, 1)
    index = min(int(position), len(values) - 1)
    after = values[min(index + 1, len(values) - 1)]
    return values[index] + (position - index) * (after - values[index])
