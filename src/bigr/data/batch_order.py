"""Order of the samples: a function of seed and epoch, split over processes, resumable."""

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
    """Yields batches of indices, and can continue in the middle of an epoch.

    The order of epoch e is drawn from a generator with the seed (seed, e). Every process takes its
    share of each global batch. Samples that do not fill a global batch are left out of the epoch.

    Args:
        num_samples: size of the dataset.
        batch_size: samples per batch and process.
        seed: seed of the order.
        rank: number of this process.
        num_ranks: number of processes.
        num_views: number of views per sample, one of which is drawn at random; the batch contains
            sample * num_views + view.
        group: batches per optimizer step; an epoch has complete groups only.
        blocks: first samples of blocks that are read as a whole. Then the order of the blocks is
            shuffled, and samples within each 16 consecutive blocks. None shuffles all samples.

    Raises:
        ValueError: if the dataset does not fill one global batch.
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
        """Number of batches since the first epoch; set it to resume."""
        if len(self) == 0:
            times = f", {group} times" if group > 1 else ""
            devices = f" on each of {num_ranks} devices" if num_ranks > 1 else ""
            raise ValueError(
                f"{num_samples} samples do not fill one batch of {batch_size}{devices}{times}: "
                "lower data.batch_size or global_batch_size."
            )

    def __len__(self) -> int:
        steps = self.num_samples // (self.batch_size * self.num_ranks * self.group)
        return steps * self.group

    def __iter__(self) -> Iterator[list[int]]:
        epoch, start = divmod(self.consumed, len(self))
        order = self._order(epoch)
        for index in range(start, len(self)):
            self.consumed += 1  # before the yield, so that the last batch is also counted
            yield self._global_batch(order, index)[self.rank :: self.num_ranks]

    def describe(self, consumed: int) -> dict[str, Any]:
        """Return the content of the global batch that follows ``consumed`` others, for logs."""
        epoch, index = divmod(consumed, len(self))
        chosen = self._global_batch(self._order(epoch), index)
        samples = {"epoch": epoch, "batch": index, "samples": [i // self.num_views for i in chosen]}
        if self.num_views > 1:
            samples["views"] = [i % self.num_views for i in chosen]
        return samples

    def _global_batch(self, order: Tensor, index: int) -> list[int]:
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
