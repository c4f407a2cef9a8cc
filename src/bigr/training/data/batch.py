"""The batch that data modules give to a training step, and the size of batches."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from bigr.data.broken import BrokenImage
from bigr.data.image_arrays import to_float


class Batch(NamedTuple):
    """Images or codes, with labels."""

    labels: Tensor
    """(B,) int64."""
    images: Tensor | None = None
    """(B, 3, H, W) float in [0, 1]."""
    codes: Tensor | None = None
    """(B, N, K) float, 0 or 1."""
    broken: tuple[BrokenImage, ...] = ()
    """Unreadable images that were replaced by others."""
    features: Tensor | None = None
    """(B, N, C) float16 features of the images by a frozen encoder."""

    @classmethod
    def of(cls, batch: Any) -> Batch:
        """Return ``batch`` as a :class:`Batch`. Any DataLoader may be used with it.

        Args:
            batch: a :class:`Batch`, or a pair (inputs, labels) as torchvision's datasets yield it.
                Inputs of shape (B, 3, H, W) are images, uint8 or float in [0, 1]; inputs of shape
                (B, N, K) are codes of 0 and 1.

        Raises:
            ValueError: for anything else.
        """
        if isinstance(batch, Batch):
            return batch
        if isinstance(batch, tuple | list) and len(batch) == 2:
            inputs, labels = batch
            if isinstance(inputs, Tensor) and isinstance(labels, Tensor):
                if inputs.ndim == 4 and inputs.shape[1] == 3:
                    return cls(labels.long(), images=to_float(inputs))
                if inputs.ndim == 3:
                    return cls(labels.long(), codes=inputs.float())
        raise ValueError(
            "a batch must be a pair (images, labels) or (codes, labels) of tensors, with images of "
            f"shape (B, 3, H, W) or codes of shape (B, N, K); got {_describe(batch)}."
        )


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(map(_describe, value)) or 'nothing'}"
    return f"a {type(value).__name__}"


def batch_size_of(batch: Any) -> int:
    """Return the number of samples in a batch of any structure: the length of its first tensor."""
    if isinstance(batch, Tensor):
        return len(batch)
    parts = batch.values() if isinstance(batch, dict) else batch
    nested = [part for part in parts if isinstance(part, Tensor | dict | tuple | list)]
    return next(filter(None, map(batch_size_of, nested)), 0)


def split_batch(total: int, num_devices: int, most: int) -> tuple[int, int]:
    """Split a global batch evenly over devices, with as few accumulated batches as possible.

    ``total = per_device * accumulated * num_devices``.

    Args:
        total: images per optimiser step.
        num_devices: number of devices.
        most: largest batch of a device.

    Returns:
        Images per device and batch, and batches per optimiser step.

    Raises:
        ValueError: if there is no even split, or only one with much smaller batches than ``most``.
    """
    share, rest = divmod(total, num_devices)
    if rest or share == 0:
        below = total - rest
        near = [str(size) for size in (below, below + num_devices) if size > 0]
        raise ValueError(
            f"global_batch_size={total} can't be shared evenly by {num_devices} devices: use "
            f"{' or '.join(near)}, or another number of devices."
        )
    steps = next(n for n in range(1, share + 1) if share % n == 0 and share // n <= most)
    if 2 * (share // steps) < min(most, share):
        raise ValueError(
            f"global_batch_size={total} leaves {share} images for each of {num_devices} devices, "
            f"which makes batches of {share // steps} where data.batch_size={most} would fit: use "
            f"a data.batch_size that divides {share}, or another global_batch_size."
        )
    return share // steps, steps
