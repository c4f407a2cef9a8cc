"""What both LightningModules share: step-wise randomness, schedules, what a checkpoint holds."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import lightning
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from bigr.data.seeds import mixed_seed

Network = TypeVar("Network", bound=nn.Module)
SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]


class Configuration(Protocol):
    """A frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class Frozen(Generic[Network]):
    """Holds a module outside the submodules: not in checkpoints, gradients or the EMA.

    Args:
        module: or None.
    """

    def __init__(self, module: Network | None) -> None:
        self.module = None if module is None else module.requires_grad_(False).eval()

    def on(self, device: torch.device) -> Network | None:
        """The module on a device, if there is one."""
        return None if self.module is None else self.module.to(device)

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen[Network]:
        return self


def step_seed(seed: int, step: int, rank: int) -> int:
    """A seed for one step on one process; validation steps count down from -1."""
    return mixed_seed("step", seed, step, rank)


class TrainingModule(lightning.LightningModule):
    """Base of the LightningModules.

    Args:
        kind: ``generator`` or ``autoencoder``, written into checkpoints.
        config: sizes of the network, written into checkpoints.
        lr_scheduler: gets the optimiser, steps every optimiser step; None is constant.
        seed: with the step and the rank, decides all randomness of a training step.
    """

    def __init__(
        self,
        kind: str,
        config: Configuration,
        lr_scheduler: SchedulerFactory | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.network_config = config
        self.lr_scheduler_factory = lr_scheduler
        self.seed = seed
        self.run_config: dict[str, Any] = {}
        """The resolved configuration of the run, plain containers; set by the entry point."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Reseed, so that a resumed run draws what the uninterrupted one would have drawn."""
        torch.manual_seed(step_seed(self.seed, batch_counter(self), self.global_rank))

    def on_validation_batch_start(
        self,
        batch: Any,  # noqa: ARG002
        batch_idx: int,
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """The same draws in every validation run, so that its losses can be compared."""
        torch.manual_seed(step_seed(self.seed, -1 - batch_idx, self.global_rank))

    def check(self, data: Any) -> None:  # noqa: ARG002
        """Raise ``ValueError`` if this module can't learn, or not from the data module ``data``."""
        for name, factory in vars(self).items():
            if isinstance(factory, functools.partial):
                try:
                    inspect.signature(factory.func).bind_partial(*factory.args, **factory.keywords)
                except TypeError as error:
                    key = f"task.{name.removesuffix('_factory')}"
                    raise ValueError(f"{key}: {factory.func.__name__} {error}.") from error

    def with_schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        """What ``configure_optimizers`` returns for ``optimizer``."""
        if self.lr_scheduler_factory is None:
            return optimizer
        schedule = {"scheduler": self.lr_scheduler_factory(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what later commands need, so that none of them asks for it again."""
        checkpoint["bigr"] = {
            "kind": self.kind,
            "config": dataclasses.asdict(self.network_config),
            "run": self.run_config,
        }


def batch_counter(module: lightning.LightningModule) -> int:
    """Training batches finished since the very start, restored on resume.

    A batch that an interruption broke off doesn't count: it is trained again.
    """
    progress = module.trainer.fit_loop.epoch_loop.batch_progress
    return int(progress.total.processed)  # type: ignore[attr-defined]  # declared too narrowly
