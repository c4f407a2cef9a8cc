"""Base class of the LightningModules: randomness by step, schedules, contents of checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from bigr.data.seeds import mixed_seed
from bigr.training.callbacks.collapse import CollapseError
from bigr.training.gradient_guard import GradientGuard
from bigr.training.lightning_private import (
    batch_counter,
    has_static_graph,
    rescale_batch_counters,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ALL_RANKS = -1
"""Replaces the rank in the seed of draws that are the same on all processes."""

Network = TypeVar("Network", bound=nn.Module)
SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]


class Frozen(Generic[Network]):
    """Holds a network that is not a submodule, so not in checkpoints, gradients or the EMA.

    Args:
        module: the network, or None.
    """

    def __init__(self, module: Network | None) -> None:
        self.module = None if module is None else module.requires_grad_(False).eval()

    def on(self, device: torch.device) -> Network | None:
        """Return the network on a device, or None if there is none."""
        if self.module is None:
            return None
        # Module.to visits every module, which takes milliseconds even if nothing has to be moved.
        first = next(itertools.chain(self.module.parameters(), self.module.buffers()), None)
        if first is not None and first.device != device:
            self.module.to(device)
        return self.module

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen[Network]:
        return self


def seed_generators(seed: int) -> None:
    """Seed the default generators of the CPU and of the GPUs in use.

    ``torch.manual_seed`` does the same, but also queues a call, with a stack trace, for each kind
    of device that is not in use. In a training step, this would take time and more and more memory.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of a step on a process. Validation steps count down from -1."""
    return mixed_seed("step", seed, step, rank)


class BatchPlace(NamedTuple):
    """The position of a batch in the global batch of its optimiser step.

    Randomness is drawn for the whole global batch, and each process takes its rows. An image is
    therefore treated the same on any number of devices.
    """

    step: int
    """Number of optimiser steps before this one."""
    total: int
    """Number of images in the global batch."""
    rows: slice
    """The rows of this process's batch."""

    def generator(self, seed: int, device: torch.device | str) -> torch.Generator:
        """Return a generator with the same state on all processes."""
        return torch.Generator(device).manual_seed(step_seed(seed, self.step, ALL_RANKS))


class TrainingModule(LightningModule):
    """Base class of the LightningModules.

    Args:
        kind: ``generator`` or ``autoencoder``, stored in checkpoints.
        config: sizes of the network, stored in checkpoints.
        lr_scheduler: called with the optimiser; it steps at every optimiser step. None keeps the
            learning rate constant.
        seed: determines, together with the step and the rank, all randomness of a step.
        max_skipped_steps: a step whose gradient is not finite is skipped. More than this many
            skipped steps in a row stop the run.
    """

    learns: Literal["codes", "images"]
    """What the module is trained on; compared with ``provides`` of the data module."""
    shown_metrics: tuple[str, ...] = ("train/loss",)
    """Metrics of training steps that the progress bar shows. They are logged without
    ``prog_bar=True``, because Lightning would read them, and wait for the device, at every step."""

    def __init__(
        self,
        kind: str,
        config: DataclassInstance,
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
        """The resolved configuration of the run, stored in checkpoints."""
        self.guard = GradientGuard(max_skipped_steps)

    def configure_trainer(self, settings: dict[str, Any], world_size: int) -> dict[str, Any]:
        """Return the arguments of ``lightning.Trainer`` with which this module is trained.

        Args:
            settings: the arguments from the configuration.
            world_size: number of processes.

        Raises:
            ValueError: if the module cannot be trained with them.
        """
        is_static = has_static_graph(settings.get("strategy"))
        if is_static and settings.get("accumulate_grad_batches", 1) > 1:
            # PyTorch issue 143580: the first backward pass fails, or gradients are not averaged.
            raise ValueError(
                "strategy.static_graph=true does not work with accumulated batches in PyTorch: "
                "remove it, or choose global_batch_size and data.batch_size so that a step has "
                "one batch per device."
            )
        return settings

    def check(self, data: Any) -> None:
        """Raise ``ValueError`` if this module cannot be trained, or not on this data module.

        Args:
            data: any LightningDataModule, after ``setup("fit")``. Facts that it does not state as
                attributes (``provides``, ``image_size``, ``num_classes``, …) are not compared.
        """
        try:
            with contextlib.suppress(RuntimeError):  # a subclass may need its trainer
                self.configure_optimizers()
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"task.optimizer or task.lr_scheduler: {str(error).rstrip('.')}."
            ) from error

    def trained_names(self) -> list[str]:
        """Return the names of the parameters that are trained."""
        return [name for name, parameter in self.named_parameters() if parameter.requires_grad]

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by the part of the network whose gradient norm is logged."""
        raise NotImplementedError

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step, so that a resumed run draws the numbers of the uninterrupted one."""
        seed_generators(step_seed(self.seed, batch_counter(self), self.global_rank))

    def on_validation_batch_start(
        self, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Seed each batch, so that the losses of different validation runs are comparable."""
        seed_generators(step_seed(self.seed, -1 - batch_idx, self.global_rank))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient, and skip the step if it is not finite."""
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
        """Apply ``guard`` to the gradient, and log the norms.

        Raises:
            CollapseError: if too many steps in a row were skipped.
        """
        norms = guard.apply(optimizer, parts, limit)
        whole = norms.pop("all")
        if not self.automatic_optimization or is_shown(self.trainer, self.global_step + 1):
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
                "trainer.gradient_clip_val, and resume from the last checkpoint; a larger "
                "task.max_skipped_steps allows more."
            )

    def _report_batches(self, num_steps: int) -> str:
        """Write down which samples the last steps were made of, if the data module knows."""
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

    def with_schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        """Return the value of ``configure_optimizers`` for ``optimizer`` and its schedule."""
        if self.lr_scheduler_factory is None:
            return optimizer
        schedule = {"scheduler": self.lr_scheduler_factory(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what is needed to load the network without the configuration of the run."""
        checkpoint["bigr"] = {
            "kind": self.kind,
            "config": dataclasses.asdict(self.network_config),
            "run": self.run_config,
            "skipped": self.guard.state(),
            "accumulated": self.trainer.accumulate_grad_batches,
            "trained": self.trained_names(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the count of skipped steps, and convert the batch counters if necessary."""
        about = checkpoint.get("bigr", {})
        self.guard.restore(about.get("skipped", [0, 0]))
        before = about.get("accumulated", 1)
        now = before if self._trainer is None else self.trainer.accumulate_grad_batches
        if before != now:
            rescale_batch_counters(checkpoint, before, now)


def batch_place(trainer: Trainer, batch_size: int) -> BatchPlace:
    """Return the position of the current training batch in the global batch.

    Args:
        trainer: the trainer, during training.
        batch_size: images in the batch, equal for all processes and batches.
    """
    step, part = divmod(batch_counter(trainer.lightning_module), trainer.accumulate_grad_batches)
    together = batch_size * trainer.world_size
    return BatchPlace(
        step=step,
        total=together * trainer.accumulate_grad_batches,
        rows=slice(
            part * together + trainer.global_rank, (part + 1) * together, trainer.world_size
        ),
    )


def batches_per_step(trainer: Trainer, module: LightningModule) -> int:
    """Return how many batches one optimiser step accumulates.

    With manual optimisation the module accumulates, and the trainer does not know about it.
    """
    ours: int = getattr(module, "accumulate_grad_batches", 1)
    return max(trainer.accumulate_grad_batches, ours)


def is_shown(trainer: Trainer, step: int) -> bool:
    """Return whether metrics of the step that ends with ``step`` are logged, or shown in a bar.

    The last ones of an epoch and of the run are always shown. Lightning takes a millisecond to
    receive a metric, which is noticeable for small models.
    """
    is_last = trainer.is_last_batch or step == trainer.max_steps
    return is_logged(trainer, step) or step % 10 == 0 or is_last


def is_logged(trainer: Trainer, step: int) -> bool:
    """Return whether metrics are logged after ``step`` optimiser steps."""
    return step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]  # it has it
