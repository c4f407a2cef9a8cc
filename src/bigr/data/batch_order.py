"""Order of the samples: a pure function of (seed, epoch), split over processes, resumable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from bigr.data.seeds import mixed_seed
from bigr.data.sources.source import MIXED_BLOCKS


class ResumableBatchSampler(Sampler[list[int]]):
    """Batches of indices whose position survives a restart in mid-epoch.

    The order of epoch e comes from a generator seeded by (seed, e). Every process takes its own
    share of each global batch; what doesn't fill one is left out of that epoch.

    Args:
        num_samples: size of the data set.
        batch_size: per process.
        seed: of the order.
        rank: this process.
        num_ranks: processes.
        num_views: of each sample one view is drawn; the batch holds sample * num_views + view.
        group: batches that one optimiser step takes; an epoch has whole groups only.
        blocks: first sample of each run that is read as a whole; then these runs are shuffled, and
            samples within each 16 of them. None shuffles everything.

    Raises:
        ValueError: if the data doesn't fill one global batch.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        num_ranks: int = 1,
        num_views: int = 1,
        group: int = 1,
        blocks: NDArray[np.int64] | None = None,
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.num_ranks = num_ranks
        self.num_views = num_views
        self.group = group
        self.blocks = None if blocks is None else torch.from_numpy(blocks)
        self.consumed = 0
        """Batches handed out since the first epoch; set it to resume."""
        if len(self) == 0:
            times = f", {group} times" if group > 1 else ""
            raise ValueError(
                f"{num_samples} samples don't fill one batch of {batch_size} on each of "
                f"{num_ranks} devices{times}: lower data.batch_size or global_batch_size."
            )

    def __len__(self) -> int:
        steps = self.num_samples // (self.batch_size * self.num_ranks * self.group)
        return steps * self.group

    def __iter__(self) -> Iterator[list[int]]:
        epoch, start = divmod(self.consumed, len(self))
        order = self._order(epoch)
        for index in range(start, len(self)):
            self.consumed += 1  # before the yield: the last batch, too, counts as handed out
            yield self._together(order, index)[self.rank :: self.num_ranks]

    def describe(self, consumed: int) -> dict[str, Any]:
        """What the batch after ``consumed`` others holds, on all processes together."""
        epoch, index = divmod(consumed, len(self))
        chosen = self._together(self._order(epoch), index)
        samples = {"epoch": epoch, "batch": index, "samples": [i // self.num_views for i in chosen]}
        if self.num_views > 1:
            samples["views"] = [i % self.num_views for i in chosen]
        return samples

    def _together(self, order: Tensor, index: int) -> list[int]:
        size = self.batch_size * self.num_ranks
        return list(order[index * size : (index + 1) * size].tolist())

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(mixed_seed("epoch", self.seed, epoch))
        order = torch.randperm(self.num_samples, generator=generator)
        if self.blocks is not None:
            places = torch.randperm(len(self.blocks), generator=generator) // MIXED_BLOCKS
            block = torch.searchsorted(self.blocks, order, right=True) - 1
            order = order[places[block].argsort(stable=True)]
        if self.num_views > 1:
            views = torch.randint(self.num_views, (self.num_samples,), generator=generator)
            order = order * self.num_views + views
        return order
