"""What a data module hands to a training step."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from bigr.data.broken import BrokenImage


class Batch(NamedTuple):
    """Images or codes, with labels."""

    labels: Tensor
    """(B,) int64."""
    images: Tensor | None = None
    """(B, 3, H, W) float in [0, 1]."""
    codes: Tensor | None = None
    """(B, N, K) float 0/1."""
    broken: tuple[BrokenImage, ...] = ()
    """Images that others stand in for."""


def split_batch(total: int, num_devices: int, most: int) -> tuple[int, int]:
    """A global batch as ``per_device * accumulated * num_devices``, with the fewest accumulations.

    Args:
        total: images of one optimiser step.
        num_devices: that share it.
        most: images that a device takes at once.

    Returns:
        Images per device and batch, and batches per optimiser step.

    Raises:
        ValueError: if there is no even split, or only one that leaves devices mostly idle.
    """
    share, rest = divmod(total, num_devices)
    if rest or share == 0:
        below = total - rest
        near = [str(size) for size in (below, below + num_devices) if size > 0]
        raise ValueError(
            f"global_batch_size={total} can't be shared evenly by {num_devices} devices: take "
            f"{' or '.join(near)}, or another number of devices."
        )
    steps = next(n for n in range(1, share + 1) if share % n == 0 and share // n <= most)
    if 2 * (share // steps) < min(most, share):
        raise ValueError(
            f"global_batch_size={total} leaves {share} images for each of {num_devices} devices, "
            f"which makes batches of {share // steps} where data.batch_size={most} would fit: take "
            f"a data.batch_size that divides {share}, or another global_batch_size."
        )
    return share // steps, steps
