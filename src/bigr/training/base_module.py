"""What both LightningModules share: step-wise randomness, schedules, what a checkpoint holds."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import lightning
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from bigr.data.seeds import mixed_seed
from bigr.training.callbacks.collapse import CollapseError
from bigr.training.gradient_guard import GradientGuard

ALL_RANKS = -1
"""Stands for the rank in seeds of what all processes draw alike."""

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


class BatchPlace(NamedTuple):
    """Which images of an optimiser step's global batch a process has at hand.

    Randomness is drawn for the whole global batch and each process takes its rows, so that the same
    images are treated alike on any number of devices.
    """

    step: int
    """Optimiser steps done."""
    total: int
    """Images of the global batch."""
    rows: slice
    """This process's in this batch."""

    def generator(self, seed: int, device: torch.device | str) -> torch.Generator:
        """The same one on all processes."""
        return torch.Generator(device).manual_seed(step_seed(seed, self.step, ALL_RANKS))


class TrainingModule(lightning.LightningModule):
    """Base of the LightningModules.

    Args:
        kind: ``generator`` or ``autoencoder``, written into checkpoints.
        config: sizes of the network, written into checkpoints.
        lr_scheduler: gets the optimiser, steps every optimiser step; None is constant.
        seed: with the step and the rank, decides all randomness of a training step.
        max_skipped_steps: a step whose gradient isn't finite changes nothing; after more than so
            many in a row the run stops.
    """

    def __init__(
        self,
        kind: str,
        config: Configuration,
        lr_scheduler: SchedulerFactory | None,
        seed: int,
        max_skipped_steps: int = 10,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.network_config = config
        self.lr_scheduler_factory = lr_scheduler
        self.seed = seed
        self.run_config: dict[str, Any] = {}
        """The resolved configuration of the run, plain containers; set by the entry point."""
        self.guard = GradientGuard(max_skipped_steps)

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

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the part of the network whose gradient's norm is logged."""
        raise NotImplementedError

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm, and skip the step if it isn't finite."""
        if gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            gradient_clip_val = None
        self.guarded(self.guard, optimizer, self.parts(), gradient_clip_val)

    def guarded(
        self,
        guard: GradientGuard,
        optimizer: torch.optim.Optimizer,
        parts: dict[str, list[nn.Parameter]],
        limit: float | None,
    ) -> None:
        """Have ``guard`` look at the gradient, and log its norms.

        Raises:
            CollapseError: if too many steps in a row had to be skipped.
        """
        norms = guard.apply(optimizer, parts, limit)
        whole = norms.pop("all")
        for part, norm in norms.items():
            self.log(f"train/grad_norm/{part}", norm)
        if len(norms) > 1:
            self.log("train/grad_norm", whole)
            self.log("train/skipped_steps", guard.skipped_tensor)
        if guard.is_too_much():
            raise CollapseError(
                f"the gradient wasn't finite in {guard.in_a_row} steps in a row, up to step "
                f"{self.global_step}; the weights are those from before"
                f"{self._report_batches(guard.in_a_row)}. Lower task.optimizer.lr or set "
                "trainer.gradient_clip_val, and go on from the last checkpoint; "
                "task.max_skipped_steps bears more."
            )

    def _report_batches(self, num_steps: int) -> str:
        """Write which samples the last steps were made of, for a look at them."""
        describe = getattr(getattr(self.trainer, "datamodule", None), "describe_batch", None)
        if describe is None:
            return ""
        last = batch_counter(self)
        first = max(0, last + 1 - num_steps * self.trainer.accumulate_grad_batches)
        path = Path(self.trainer.default_root_dir) / "skipped_batches.json"
        if self.trainer.is_global_zero:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps([describe(index) for index in range(first, last + 1)]))
        return f" (their samples are in {path})"

    def check(self, data: Any) -> None:  # noqa: ARG002
        """Raise ``ValueError`` if this module can't learn, or not from the data module ``data``."""
        for name, factory in vars(self).items():
            if isinstance(factory, functools.partial):
                try:
                    inspect.signature(factory.func).bind_partial(*factory.args, **factory.keywords)
                except TypeError as error:
                    key = f"task.{name.removesuffix('_factory')}"
                    raise ValueError(f"{key}: {factory.func.__name__} {error}.") from error
        if self.lr_scheduler_factory is not None:  # its arguments may contradict each other
            self.lr_scheduler_factory(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))

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
            "skipped": self.guard.state(),
            "accumulated": self.trainer.accumulate_grad_batches,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting: skipped steps, and batches if a step takes another number of them now."""
        about = checkpoint.get("bigr", {})
        self.guard.restore(about.get("skipped", [0, 0]))
        before = about.get("accumulated", 1)
        now = self.trainer.accumulate_grad_batches if self._trainer is not None else before
        if before != now:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            for counts in (progress["total"], progress["current"]):
                done = counts["processed"]
                for name, count in counts.items():
                    counts[name] = done * now // before + count - done

    def place(self, batch_size: int) -> BatchPlace:
        """Where the batch of a training step belongs.

        Args:
            batch_size: its images, as many on every process and in every batch.
        """
        return batch_place(self.trainer, batch_size)


def batch_place(trainer: lightning.Trainer, batch_size: int) -> BatchPlace:
    """See :meth:`TrainingModule.place`."""
    module = trainer.lightning_module
    step, part = divmod(batch_counter(module), trainer.accumulate_grad_batches)
    together = batch_size * trainer.world_size
    return BatchPlace(
        step=step,
        total=together * trainer.accumulate_grad_batches,
        rows=slice(
            part * together + trainer.global_rank, (part + 1) * together, trainer.world_size
        ),
    )


def is_logged(trainer: lightning.Trainer, step: int) -> bool:
    """Whether figures are logged after ``step`` optimiser steps."""
    return step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]  # has


def batch_counter(module: lightning.LightningModule) -> int:
    """Training batches finished since the very start, restored on resume.

    A batch that an interruption broke off doesn't count: it is trained again.
    """
    progress = module.trainer.fit_loop.epoch_loop.batch_progress
    return int(progress.total.processed)  # type: ignore[attr-defined]  # declared too narrowly
