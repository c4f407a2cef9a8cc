"""AdamW with the paper's parameter groups, and its learning-rate schedules."""

from __future__ import annotations

import math

import torch
from torch import nn

from bigr.models.bigr import BiGR


def adamw(
    model: BiGR,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.02,
    fused: bool = True,
) -> torch.optim.AdamW:
    """AdamW without weight decay on 1-D parameters, biases and the whole transcoder.

    Args:
        model: the generator.
        lr: learning rate.
        betas: decay rates of Adam's moments.
        weight_decay: for the parameters that decay.
        fused: use one kernel for all parameters, which is 6 times faster on a CPU. ``16-mixed``
            precision with ``trainer.gradient_clip_val`` needs ``fused=False``.
    """
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith("bias")
        is_transcoder = name.startswith("transcoder.")
        (decaying if decays and not is_transcoder else others).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=lr, betas=(betas[0], betas[1]), weight_decay=0.0, fused=fused
    )


def constant(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """Keep the learning rate constant, as in the paper."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)  # noqa: ARG005


def warmup_cosine(
    optimizer: torch.optim.Optimizer,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    final_factor: float = 0.0,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Warm up linearly, then decrease the learning rate along half a cosine.

    Args:
        optimizer: the optimiser whose learning rates are scaled.
        total_steps: optimiser steps until ``final_factor`` is reached.
        warmup_steps: number of optimiser steps until the full learning rate.
        final_factor: factor of the learning rate at the end.

    Raises:
        ValueError: unless 0 <= warmup_steps < total_steps.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} must be at least 0 and below total_steps={total_steps}."
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        cosine = (1.0 + math.cos(math.pi * progress)) / 2
        return final_factor + (1.0 - final_factor) * cosine

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
