"""How fast it goes: images, tokens and FLOP per second, waiting for data, memory."""

from __future__ import annotations

import logging
import resource
import sys
import time
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.throughput import Throughput, get_available_flops
from lightning.pytorch.callbacks import Callback

from bigr.models.flops import mean_masked_share, training_flops
from bigr.training.base_module import is_logged
from bigr.training.generator_module import GeneratorModule

log = logging.getLogger(__name__)

GIGA = 1e9
TERA = 1e12


def peak_memory(device: torch.device) -> float:
    """Most bytes in use so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(kilobytes) * (1 if sys.platform == "darwin" else 1024)


def step_flops(module: lightning.LightningModule) -> float | None:
    """Model FLOP per image, whatever shortcuts or recomputation there are; None if unknown."""
    if not isinstance(module, GeneratorModule):
        return None
    config = module.model.config
    return training_flops(config, masked_share=mean_masked_share(config))


class ThroughputLogger(Callback):
    """Logs, whenever the other figures are logged, how fast the steps since the last time were.

    ``perf/images_per_second`` and ``perf/tokens_per_second`` are of all devices together,
    ``perf/teraflops`` (TFLOP/s, the model's, without recomputation) and ``perf/mfu`` of one;
    ``perf/data_wait`` is the share of the time spent waiting for a batch, ``perf/peak_memory_gb``
    what was in use at most. Validation doesn't count.
    """

    def __init__(self) -> None:
        self._throughput: Throughput | None = None
        self._clock = 0.0
        self._paused_at: float | None = None
        self._batch_end: float | None = None
        self._waited = 0.0
        self._images = 0
        self._batches = 0
        self._last_images = 0
        self._last_step = 0
        self._has_told = False

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the clock."""
        is_gpu = pl_module.device.type == "cuda"
        peak = get_available_flops(pl_module.device, torch.bfloat16) if is_gpu else None
        self._throughput = Throughput(peak, trainer.world_size, window_size=2)
        self._clock = self._now()
        self._last_step = trainer.global_step

    def on_validation_start(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
    ) -> None:
        """Stop it."""
        self._paused_at = self._now()

    def on_validation_end(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
    ) -> None:
        """Go on."""
        if self._paused_at is not None:
            self._clock += self._now() - self._paused_at
        self._paused_at = self._batch_end = None

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """The batch is there."""
        if self._batch_end is not None:
            self._waited += self._now() - self._batch_end

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Count, and log if it is time."""
        self._images += len(batch.labels)
        self._batches += 1
        step = trainer.global_step
        if step != self._last_step and is_logged(trainer, step):
            self._log(trainer, pl_module)
        self._last_step = step
        self._batch_end = self._now()

    def _log(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self._throughput is None:
            return
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)  # the figures about to be logged wait, too
        flops = step_flops(module)
        images, self._last_images = self._images - self._last_images, self._images
        tokens = module.model.config.seq_len if isinstance(module, GeneratorModule) else None
        elapsed = self._now() - self._clock
        self._throughput.update(
            time=elapsed,
            batches=self._batches,
            samples=self._images,
            lengths=None if tokens is None else self._images * tokens,
            flops=None if flops is None else int(flops * images),
        )
        figures = self._throughput.compute()
        seconds = self._throughput._time[-1] - self._throughput._time[0]
        waited, self._waited = self._waited, 0.0
        if "device/samples_per_sec" not in figures:
            return
        rate = figures["device/samples_per_sec"] * trainer.world_size
        named = {
            "images_per_second": rate,
            "data_wait": min(1.0, waited / seconds),
            "peak_memory_gb": peak_memory(module.device) / GIGA,
        }
        if tokens is not None:
            named["tokens_per_second"] = rate * tokens
        if "device/flops_per_sec" in figures:
            named["teraflops"] = figures["device/flops_per_sec"] / TERA
        if "device/mfu" in figures:
            named["mfu"] = figures["device/mfu"]
        module.log_dict({f"perf/{name}": float(value) for name, value in named.items()})
        self._tell(trainer, rate)

    def _tell(self, trainer: lightning.Trainer, rate: float) -> None:
        """Once it has been measured: what an epoch takes."""
        order = getattr(getattr(trainer, "datamodule", None), "_train_order", None)
        if self._has_told or order is None or not trainer.is_global_zero:
            return
        self._has_told = True
        hours = order.num_samples / rate / 3600
        unit = "GPU-hours" if trainer.strategy.root_device.type == "cuda" else "hours"
        devices = trainer.world_size if unit == "GPU-hours" else 1
        log.info("%.4g images/s: an epoch takes %.3g %s", rate, hours * devices, unit)

    @staticmethod
    def _now() -> float:
        return time.perf_counter()
