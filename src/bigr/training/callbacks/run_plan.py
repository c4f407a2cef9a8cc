"""What a run is about to do, said before its first step."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

import bigr
from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig
from bigr.training.callbacks.throughput import GIGA, TERA, step_flops
from bigr.training.generator_module import GeneratorModule

log = logging.getLogger(__name__)

MEGA = 1e6
PER_WEIGHT = {"weights": 4, "gradients": 4, "optimiser": 8}
"""Bytes for every trained parameter; matrix products have their bf16 copies for a moment only."""


def code_version() -> str:
    """The package's version, and the commit where it is a checkout with git at hand."""
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


def activation_bytes(config: BiGRConfig, *, recomputes: bool = False) -> int:
    """What the backward pass of one image keeps in float32, from a trial without values.

    Args:
        config: of the generator.
        recomputes: whether transformer layers keep their inputs only.
    """
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter) and storage._cdata not in weights:
            seen[storage._cdata] = storage.nbytes()
        kept.append(tensor)  # alive, lest another storage gets the same address
        return tensor

    kept: list[Tensor] = []
    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model = BiGR(config).to("meta")
        model.transformer.recomputes = recomputes
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        codes = torch.zeros(1, config.seq_len, config.code_dim)
        outcome = model.loss(codes, torch.zeros(1, dtype=torch.int64))
        del outcome
    return sum(seen.values())


class Plan(Callback):
    """Logs sizes, batches, arithmetic and memory before the first step.

    Args:
        keep_last: checkpoints kept, for their size.
    """

    def __init__(self, keep_last: int = 2) -> None:
        self.keep_last = keep_last

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Say it, once for all processes."""
        if trainer.is_global_zero:
            for line in self.lines(trainer, pl_module):
                log.info("%s", line)

    def lines(self, trainer: lightning.Trainer, module: Any) -> list[str]:
        """What there is to say."""
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        has_average = any(type(c).__name__ == "EMA" for c in trainer.callbacks)  # type: ignore[attr-defined]
        saved = trained * (4 + 8 + 4 * has_average)
        accumulated = max(
            trainer.accumulate_grad_batches, getattr(module, "accumulate_grad_batches", 1)
        )
        size = getattr(trainer.datamodule, "batch_size", 0)  # type: ignore[attr-defined]
        together = size * trainer.world_size * accumulated
        lines = [
            f"bigr {code_version()}, torch {torch.__version__}, {_device_name(module.device)} x "
            f"{trainer.world_size}, {trainer.precision}",
            f"{module.kind}: {trained / MEGA:,.1f} M trained parameters",
            f"batch: {together} = {trainer.world_size} devices x {size} images x {accumulated} "
            "accumulated",
        ]
        batches = trainer.num_training_batches
        if batches != float("inf"):
            per_epoch = -(-int(batches) // trainer.accumulate_grad_batches)
            total = trainer.estimated_stepping_batches
            lines.append(f"{per_epoch:,} steps per epoch, {total:,} in all")
        flops = step_flops(module)
        if flops is not None:
            lines.append(
                f"{flops / TERA:.3g} TFLOP per image, {flops * together / TERA:,.3g} per step"
            )
        lines.append(self._memory(trainer, module, trained, has_average, size))
        lines.append(f"checkpoints: {_in_words(saved)} each, {self.keep_last} are kept")
        if isinstance(module, GeneratorModule):
            lines.append(_attention(module))
        return lines

    def _memory(self, trainer: Any, module: Any, trained: int, has_average: bool, size: int) -> str:
        fixed = trained * (sum(PER_WEIGHT.values()) + 4 * has_average)
        text = f"memory per device: {_in_words(fixed)} for weights, optimiser and average"
        if not isinstance(module, GeneratorModule):
            return text
        half = str(trainer.precision).startswith(("bf16", "16"))
        recomputes = module.model.transformer.recomputes
        kept = activation_bytes(module.model.config, recomputes=recomputes) / (1 + half) * size
        return f"{text}, about {_in_words(kept)} for activations (an estimate)"


def _in_words(size: float) -> str:
    """Bytes with a fitting unit."""
    return f"{size / GIGA:.3g} GB" if size >= GIGA / 10 else f"{size / MEGA:.3g} MB"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _attention(module: GeneratorModule) -> str:
    """Which kernel attention runs on, as PyTorch itself would choose."""
    config, device = module.model.config, module.device
    if device.type != "cuda":
        return "attention: PyTorch's own for the CPU"
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
