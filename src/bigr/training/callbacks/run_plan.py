"""The callback that logs what a run is about to do."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

import bigr
from bigr.inference.units import amount
from bigr.schema import PositiveInt, checked
from bigr.training.base_module import batches_per_step
from bigr.training.callbacks.ema import EMA
from bigr.training.callbacks.throughput import flops_per_image
from bigr.training.generator_module import GeneratorModule
from bigr.training.sharding import is_sharded
from bigr.training.step_memory import step_memory

log = logging.getLogger(__name__)

MEGA = 1e6
PRECISIONS = {
    "32-true": "float32",
    "64-true": "float64",
    "bf16-mixed": "bfloat16 with float32 weights",
    "16-mixed": "float16 with float32 weights",
}
KIND_NAMES = {"generator": "a generator", "autoencoder": "a B-AE"}


def code_version() -> str:
    """Return the version of the package, with the commit if it is a git checkout."""
    folder = Path(str(bigr.__file__)).parents[2]
    version = bigr.__version__
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+{commit}"


class RunPlan(Callback):
    """Logs sizes, batches, arithmetic and memory before the first step.

    Arithmetic, activations and attention are known for a :class:`GeneratorModule` only.

    Args:
        keep_last: number of checkpoints that are kept; None keeps all of them.
    """

    @checked
    def __init__(self, keep_last: PositiveInt | None = 2) -> None:
        self.keep_last = keep_last

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the lines, on one process."""
        if trainer.is_global_zero:
            for line in self.lines(trainer, pl_module):
                log.info("%s", line)

    def lines(self, trainer: Trainer, module: LightningModule) -> list[str]:
        """Return the plan of a run.

        Args:
            trainer: the trainer, which is about to train ``module``.
            module: a module of any class.
        """
        whole = sum(p.numel() for p in module.parameters())
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        has_average = any(isinstance(c, EMA) for c in trainer.callbacks)  # type: ignore[attr-defined]
        kind = getattr(module, "kind", type(module).__name__)
        # 1. What runs where.
        weights = f"{_millions(whole)} parameters"
        if trained < whole:
            weights += f", {_millions(trained)} of them trained,"
        precision = PRECISIONS.get(str(trainer.precision), trainer.precision)
        lines = [
            f"training {KIND_NAMES.get(kind, kind)} with {weights} on "
            f"{_devices(module.device, trainer.world_size)} in {precision}",
            f"bigr {code_version()}, torch {torch.__version__}",
        ]
        # 2. Batches and steps.
        accumulated = batches_per_step(trainer, module)
        size = getattr(trainer.datamodule, "batch_size", None)  # type: ignore[attr-defined]
        together = (size or 0) * trainer.world_size * accumulated
        if size is not None:
            parts = []
            if trainer.world_size > 1:
                parts.append(f"{size} on each of {trainer.world_size} devices")
            if accumulated > 1:
                parts.append(f"accumulated {accumulated} times")
            shared = f" ({', '.join(parts)})" if parts else ""
            lines.append(f"batch: {together} images per step{shared}")
        if trainer.num_training_batches != float("inf"):
            per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
            total = trainer.estimated_stepping_batches
            lines.append(f"steps: {total:,} in total, {per_epoch:,} per epoch")
        # 3. Arithmetic and memory.
        flops = flops_per_image(module)
        if flops is not None:
            one, all_ = amount(flops, "FLOP"), amount(flops * together, "FLOP")
            lines.append(f"arithmetic: {one} per image, {all_} per step")
        fixed = 4 * whole + (12 + 4 * has_average) * trained
        memory = f"memory per device: {amount(fixed, 'B')} for weights, optimiser and average"
        saved = amount(whole * (4 + 4 * has_average) + trained * 8, "B")
        kept = "all" if self.keep_last is None else f"the last {self.keep_last}"
        checkpoints = f"checkpoints: {saved} each; {kept} are kept"
        if not isinstance(module, GeneratorModule):
            return [*lines, memory, checkpoints]
        memory = _memory(trainer, module, size or 0, has_average=has_average)
        return [*lines, memory, checkpoints, _attention(module)]


def _memory(trainer: Trainer, module: GeneratorModule, size: int, *, has_average: bool) -> str:
    """Return what a step of the generator needs on one device."""
    model, precision = module.model, str(trainer.precision)
    dtypes = {"bf16": torch.bfloat16, "16": torch.float16}
    need = step_memory(
        model.config,
        size,
        dtype=dtypes.get(precision.split("-")[0], torch.float32),
        num_weights=sum(p.numel() for p in module.parameters()),
        num_trained=sum(p.numel() for p in module.parameters() if p.requires_grad),
        layer_weights=sum(p.numel() for p in model.transformer.layers[0].parameters()),
        num_devices=trainer.world_size,
        is_sharded=is_sharded(model),
        has_average=has_average,
        accumulates=trainer.accumulate_grad_batches > 1,
        recomputes=model.transformer.recomputes,
        num_levels=module.levels_per_token,
        is_cpu=module.device.type == "cpu",
    )
    parts = {
        "activations": need.activations,
        "weights, optimiser and average": need.state,
        "gradients": need.gradients,
        "copies of weights": need.copies,
        "gathered weights": need.gathered,
    }
    listed = ", ".join(f"{amount(size, 'B')} for {what}" for what, size in parts.items() if size)
    return f"memory per device: at most about {amount(need.peak, 'B')} ({listed})"


def _millions(count: int) -> str:
    """Return a number, in millions if it is large."""
    if count < MEGA / 10:
        return f"{count:,}"
    return f"{count / MEGA:,.0f} M" if count >= 100 * MEGA else f"{count / MEGA:.3g} M"


def _devices(device: torch.device, count: int) -> str:
    """Return the number and the name of the devices, such as ``the CPU`` or ``8 x NVIDIA H100``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"the {name}" if count == 1 else f"{count} x {name}"


def _attention(module: GeneratorModule) -> str:
    """Return which implementation of attention is used."""
    config, device = module.model.config, module.device
    if device.type != "cuda":
        return "attention: matrix products in bfloat16, PyTorch's fused kernel in float32"
    from torch.backends.cuda import SDPAParams, can_use_efficient_attention, can_use_flash_attention

    shape = (1, config.num_heads, config.seq_len + 1, config.dim // config.num_heads)
    precision = str(module.trainer.precision)
    dtype = torch.bfloat16 if "bf16" in precision else torch.float32
    dtype = torch.float16 if precision.startswith("16") else dtype
    probe = torch.empty(shape, device=device, dtype=dtype, requires_grad=True)
    params = SDPAParams(probe, probe, probe, None, 0.0, False, False)
    if can_use_flash_attention(params):
        return "attention: flash"
    kernel = "memory-efficient" if can_use_efficient_attention(params) else "plain"
    return (
        f"attention: {kernel}, not flash, which needs bf16 or fp16 (trainer.precision=bf16-mixed)"
    )
