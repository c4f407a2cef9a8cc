"""AdamW with the paper's parameter groups, and its learning-rate schedules."""

from __future__ import annotations

import math
import re
from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import nn

from bigr.models.bigr import BiGR


def adamw(
    model: BiGR,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.02,
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0,
    fused: bool = True,
) -> torch.optim.AdamW:
    """AdamW for all trained parameters, without decay of 1-D ones, biases and the transcoder.

    Args:
        model: the generator.
        lr: learning rate.
        betas: decay rates of Adam's moments.
        weight_decay: weight decay of the parameters that decay.
        layer_decay: factor by which the learning rate falls from layer to layer towards the input,
            see :func:`rate_factor`; for fine-tuning.
        fused: use one kernel for all parameters, which is 6 times faster on a CPU. ``16-mixed``
            precision with ``trainer.gradient_clip_val`` needs ``fused=False``.
    """
    # Group the trained parameters by whether they decay, and by the factor of their rate.
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and not name.endswith("bias")
        is_transcoder = name.startswith("transcoder.")
        factor = rate_factor(name, model.config.num_layers, layer_decay)
        groups.setdefault((decays and not is_transcoder, factor), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": some, "weight_decay": weight_decay * decays, "lr": lr * factor}
            for (decays, factor), some in groups.items()
        ],
        lr=lr,
        betas=(betas[0], betas[1]),
        weight_decay=0.0,
        fused=fused,
    )


def rate_factor(name: str, num_layers: int, layer_decay: float) -> float:
    """Return layer_decay^d, the factor of the rate of a parameter at the distance d from the top.

    The last transformer layer has d = 1, the first one d = ``num_layers``, and the token embedding
    and the mask token, which come before it, d = ``num_layers`` + 1. Everything that acts on all
    layers or behind the last one has d = 0: the classes, the modulation, the positions, the norm
    and the transcoder.

    Args:
        name: name of the parameter of a :class:`~bigr.models.bigr.BiGR`.
        num_layers: number of transformer layers.
        layer_decay: factor from layer to layer, in (0, 1]; with 1, all rates are equal.
    """
    layer = re.match(r"transformer\.layers\.(\d+)\.", name)
    if layer is not None:
        return layer_decay ** (num_layers - int(layer[1]))
    is_first = name.startswith(("transformer.token_embedding.", "transformer.mask_token"))
    return layer_decay ** (num_layers + 1) if is_first else 1.0


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
            f"warmup_steps={warmup_steps} must be at least 0 and below total_steps={total_steps}, "
            "which is trainer.max_steps: lower task.lr_scheduler.warmup_steps, or train longer."
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        cosine = (1.0 + math.cos(math.pi * progress)) / 2
        return final_factor + (1.0 - final_factor) * cosine

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
