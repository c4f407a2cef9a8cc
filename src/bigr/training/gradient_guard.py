"""Gradient norms, clipping, and skipping steps whose gradient is not finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bigr.schema import NonNegativeInt, checked
from bigr.training.sharding import whole

LOOK_EVERY = 25
"""Number of steps between two reads of a counter on a GPU, each of which waits for the GPU."""


class GradientGuard:
    """Clips gradients by their norm and skips steps whose gradient is not finite.

    A loss that is not finite has such a gradient, on all processes at once, because gradients are
    reduced over them. With a fused Adam the decision is made on the device without waiting for it.

    Args:
        max_skipped: maximum number of skipped steps in a row.
    """

    @checked
    def __init__(self, max_skipped: NonNegativeInt) -> None:
        self.max_skipped = max_skipped
        self._counts: Tensor | None = None
        self._initial = (0, 0)
        self._steps = 0

    def apply(
        self,
        optimizer: torch.optim.Optimizer,
        parts: Mapping[str, Iterable[nn.Parameter]],
        limit: float | None,
    ) -> dict[str, Tensor]:
        """Clip the gradient before the optimiser's step, or have that step skipped.

        Args:
            optimizer: the optimiser of all these parameters.
            parts: parameters by the name of their part of the network.
            limit: maximum norm of the whole gradient; None does not clip.

        Returns:
            The norms before clipping: of each part, and of the whole gradient as ``all``.
        """
        parameters = {name: [p for p in part if p.grad is not None] for name, part in parts.items()}
        norms = {
            name: whole(torch.nn.utils.get_total_norm([p.grad for p in part if p.grad is not None]))
            for name, part in parameters.items()
            if part
        }
        total = torch.stack(list(norms.values())).norm()
        everything = [p for part in parameters.values() for p in part]
        if limit is not None:
            torch.nn.utils.clip_grads_with_norm_(everything, limit, total)
        is_bad = ~torch.isfinite(total)
        self._count(is_bad)
        original: Any = getattr(optimizer, "optimizer", optimizer)  # within Lightning's wrapper
        are_sharded = any(hasattr(parameter, "to_local") for parameter in everything)
        if getattr(original, "_step_supports_amp_scaling", False) and not are_sharded:
            original.found_inf = is_bad.float()
        elif bool(is_bad):
            for parameter in everything:
                parameter.grad = None
        return {**norms, "all": total}

    def is_too_much(self) -> bool:
        """Return whether too many steps in a row were skipped; checked rarely on a GPU."""
        if self._counts is None or (self._counts.is_cuda and self._steps % LOOK_EVERY):
            return False
        return self.in_a_row > self.max_skipped

    @property
    def in_a_row(self) -> int:
        """Number of steps skipped since the last one that was not."""
        return self._initial[0] if self._counts is None else int(self._counts[0])

    @property
    def skipped(self) -> int:
        """Number of steps skipped since step 0."""
        return self._initial[1] if self._counts is None else int(self._counts[1])

    @property
    def skipped_tensor(self) -> Tensor:
        """:attr:`skipped` as a tensor on the device, which does not wait for it."""
        return torch.zeros(()) if self._counts is None else self._counts[1].float()

    def state(self) -> list[int]:
        """Return the counters for a checkpoint."""
        return [self.in_a_row, self.skipped]

    def restore(self, state: list[int]) -> None:
        """Set the counters to the result of :meth:`state`."""
        self._initial, self._counts = (state[0], state[1]), None

    def _count(self, is_bad: Tensor) -> None:
        if self._counts is None:
            self._counts = torch.tensor(self._initial, device=is_bad.device)
        in_a_row, total = self._counts.unbind()
        bad = is_bad.to(self._counts.dtype)
        self._counts = torch.stack([(in_a_row + 1) * bad, total + bad])
        self._steps += 1
