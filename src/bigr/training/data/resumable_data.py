"""Base class of the data modules: a random order of training that can be resumed anywhere."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import lightning
import torch
from torch.utils.data import DataLoader, Dataset

from bigr.data.batch_order import ResumableBatchSampler
from bigr.schema import NonNegativeInt, PositiveInt, checked
from bigr.training.lightning_private import batch_counter
from bigr.training.stopping import ignore_signals


def loader_processes(wanted: int) -> int:
    """Return the number of loader processes: ``wanted``, but at most one for each processor core.

    PyTorch warns about more of them, because they would slow each other down. The order of the
    batches does not depend on their number.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    return min(wanted, cores)


class ResumableDataModule(lightning.LightningDataModule, abc.ABC):
    """A training set in resumable random order, and a validation set in its own order.

    Subclasses load their data in ``setup`` and state what they provide.

    Args:
        num_classes: number of classes.
        batch_size: images per device.
        num_workers: loader processes per device, at most one for each processor core.
        seed: seed of the order.
    """

    provides: Literal["codes", "images"]
    """The content of the batches; compared with ``learns`` of the LightningModule."""

    @checked
    def __init__(
        self,
        *,
        num_classes: PositiveInt,
        batch_size: PositiveInt,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._before: dict[str, int] = {}
        self._train_order: ResumableBatchSampler | None = None

    @abc.abstractmethod
    def num_images(self, split: str) -> int:
        """Return the number of images of ``train`` or ``val``, after ``setup``."""

    @abc.abstractmethod
    def ordered_loader(self, split: str, batches: Sequence[Sequence[int]]) -> DataLoader[Any]:
        """Return batches of the given images of ``train`` or ``val``; of codes, the first view."""

    def describe_batch(self, consumed: int) -> dict[str, Any]:
        """Return which samples the training batch after ``consumed`` others holds."""
        if self._train_order is None:
            raise RuntimeError("train_dataloader() has not been called yet")
        return self._train_order.describe(consumed)

    def train_order(self, num_samples: int, **settings: Any) -> ResumableBatchSampler:
        """Return this process's training batches, after those that were used before a resume.

        Args:
            num_samples: images in the training set.
            **settings: further arguments of :class:`ResumableBatchSampler`.
        """
        order = ResumableBatchSampler(
            num_samples,
            self.batch_size,
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            num_ranks=self.trainer.world_size if self.trainer else 1,
            group=self.trainer.accumulate_grad_batches if self.trainer else 1,
            **settings,
        )
        order.consumed = self._consumed(order)
        self._train_order = order
        return order

    def _consumed(self, order: ResumableBatchSampler) -> int:
        """Return how many batches of ``order`` were used before.

        The run before may have had another number of devices and of accumulated batches.
        """
        if not self._before:
            return 0
        images, group = self._before["images"], self._before["accumulated"]
        ours = order.batch_size * order.num_ranks * order.group
        if images != ours:
            raise ValueError(
                f"the checkpoint was made with {images} images per step, and this run has {ours}: "
                f"set global_batch_size={images}."
            )
        return self._before["consumed"] * order.group // group

    def validation_order(self, num_samples: int) -> list[list[int]]:
        """Return this process's validation batches: every ``world_size``-th sample, in order."""
        rank = self.trainer.global_rank if self.trainer else 0
        mine = list(range(rank, num_samples, self.trainer.world_size if self.trainer else 1))
        # The processes average their losses together, so that none may be without a sample.
        mine = mine or [rank % num_samples]
        return [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]

    def loader(
        self, dataset: Dataset[Any], batches: Any, collate: Callable[[Any], Any]
    ) -> DataLoader[Any]:
        """Return a DataLoader of the given batches of indices into ``dataset``."""
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=loader_processes(self.num_workers),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=ignore_signals,
        )

    def state_dict(self) -> dict[str, int]:
        """Return the number and the size of the training batches that were used."""
        if self.trainer is None or self._train_order is None:
            return {}
        order = self._train_order
        return {
            "consumed": batch_counter(self.trainer.lightning_module),
            "accumulated": order.group,
            "images": order.batch_size * order.num_ranks * order.group,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the last used batch."""
        self._before = dict(state)
