"""The callback that logs how fast training is."""

from __future__ import annotations

import logging
import resource
import sys
import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.callbacks import Callback

from bigr.inference.units import duration, speed
from bigr.models.flops import mean_masked_share, training_flops
from bigr.training.base_module import is_logged
from bigr.training.data.batch import batch_size_of
from bigr.training.generator_module import GeneratorModule

log = logging.getLogger(__name__)

GIGA = 1e9
TERA = 1e12


def peak_memory(device: torch.device) -> float:
    """Return the most bytes in use so far: on the GPU, or by this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(kilobytes) * (1 if sys.platform == "darwin" else 1024)


def flops_per_image(module: LightningModule) -> float | None:
    """Return the FLOP of the model for one image, without recomputation; None if unknown."""
    if not isinstance(module, GeneratorModule):
        return None
    config = module.model.config
    return training_flops(
        config, masked_share=mean_masked_share(config), num_levels=module.levels_per_token
    )


class ThroughputLogger(Callback):
    """Logs the speed since the last logged step, without the time of validation.

    ``perf/images_per_second`` and ``perf/tokens_per_second`` are of all devices together;
    ``perf/teraflops`` (TFLOP/s of the model) and ``perf/mfu`` (the share of the device's bf16
    peak) are of one device. ``perf/data_wait`` is the share of the time spent waiting for a batch,
    and ``perf/peak_memory_gb`` the most memory that was in use. Tokens and FLOP are known for a
    :class:`GeneratorModule` only.
    """

    def __init__(self) -> None:
        self._peak: float | None = None
        self._since: float | None = None  # None until the first logged step
        self._paused_at: float | None = None
        self._batch_end: float | None = None
        self._waited = 0.0
        self._images = 0
        self._last_step = 0
        self._has_told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look up the peak of the device."""
        if pl_module.device.type == "cuda":
            self._peak = get_available_flops(pl_module.device, torch.bfloat16)
        self._last_step = trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock during validation."""
        self._paused_at = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock continue after validation."""
        if self._paused_at is not None and self._since is not None:
            self._since += time.perf_counter() - self._paused_at
        self._paused_at = self._batch_end = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Add up the time between two steps, which is spent waiting for a batch."""
        if self._batch_end is not None:
            self._waited += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and log if metrics are logged now."""
        self._images += batch_size_of(batch)
        step = trainer.global_step
        if step != self._last_step and is_logged(trainer, step):
            self._log(trainer, pl_module, batch_size_of(batch))
        self._last_step = step
        self._batch_end = time.perf_counter()

    def _log(self, trainer: Trainer, module: Any, batch_size: int) -> None:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)  # the metrics about to be logged wait as well
        now, since = time.perf_counter(), self._since
        images, waited = self._images, self._waited
        self._since, self._images, self._waited = now, 0, 0.0
        if since is None:  # the first steps are slower: not reported
            return
        rate = images / (now - since)  # of one device
        figures = {
            "images_per_second": rate * trainer.world_size,
            "data_wait": min(1.0, waited / (now - since)),
            "peak_memory_gb": peak_memory(module.device) / GIGA,
        }
        flops = flops_per_image(module)
        if flops is not None:
            seq_len = module.model.config.seq_len
            figures["tokens_per_second"] = figures["images_per_second"] * seq_len
            figures["teraflops"] = flops * rate / TERA
            if self._peak:
                figures["mfu"] = flops * rate / self._peak
        module.log_dict({f"perf/{name}": value for name, value in figures.items()})
        self._tell(trainer, rate, batch_size)

    def _tell(self, trainer: Trainer, rate: float, batch_size: int) -> None:
        """Log once how long an epoch takes, if its length is known."""
        batches = trainer.num_training_batches
        if self._has_told or batches == float("inf") or not trainer.is_global_zero:
            return
        self._has_told = True
        seconds = batches * batch_size / rate
        gpu_hours = ""
        if trainer.strategy.root_device.type == "cuda":
            gpu_hours = f" ({seconds * trainer.world_size / 3600:.3g} GPU-hours)"
        total = speed(rate * trainer.world_size, "images")
        log.info("%s: an epoch takes %s%s", total, duration(seconds), gpu_hours)
