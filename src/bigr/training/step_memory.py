"""Memory that one device needs for a training step of the generator, computed before the run.

At the end of the forward pass, a device holds its weights, the optimiser's moments, the average,
what autograd keeps of every image, and a copy of the weights in the type of the matrix products,
which autocast makes. During the backward pass, gradients take the place of activations; the buffers
from which several devices communicate gradients exist from the start. A compiled step keeps fewer
activations, so that its memory is smaller than this estimate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bigr.models.bigr import BiGR
from bigr.models.config import BiGRConfig
from bigr.models.layers import TransformerLayer
from bigr.models.training_draws import draw_training

WEIGHT = GRADIENT = AVERAGE = 4
"""Bytes per parameter, in float32."""
MOMENTS = 8
"""Bytes of the two moments of AdamW per trained parameter, in float32."""


class KeptBytes(NamedTuple):
    """What the forward pass of the training loss keeps for the backward pass, in bytes."""

    copies: float
    """Copies of weights, which do not depend on the batch."""
    per_image: float
    """Activations of one image."""
    layer: float
    """The part of ``per_image`` that belongs to one transformer layer."""


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes on one device, by what they are for."""

    state: float
    """Weights, the optimiser's moments and the average."""
    gradients: float
    copies: float
    """Copies of the weights in the type of the matrix products."""
    activations: float
    gathered: float = 0.0
    """Weights of other devices that a sharded model has gathered."""
    has_buffers: bool = False
    """Whether the gradients have their memory from the start of the step."""

    @property
    def peak(self) -> float:
        """The most bytes that are in use at a time."""
        forward = self.copies + self.activations + self.gathered
        both = self.gradients + forward if self.has_buffers else max(self.gradients, forward)
        return self.state + both


@functools.cache
def kept_bytes(
    config: BiGRConfig,
    dtype: torch.dtype = torch.float32,
    *,
    recomputes: bool = False,
    num_levels: int = 1,
    is_cpu: bool = False,
) -> KeptBytes:
    """Measure what autograd keeps, with fake tensors, which have no values.

    All transformer layers keep the same, so that a model with two layers suffices. What the second
    one keeps belongs to it alone; the first one is also the first to use what all layers share.

    Args:
        config: sizes of the generator.
        dtype: type of the matrix products; all but float32 is autocast.
        recomputes: whether transformer layers keep their inputs only.
        num_levels: noise levels per token.
        is_cpu: whether the device is a CPU, where attention in bfloat16 keeps its weights.
    """

    # From two and three images, because some copies are not needed for a single one.
    total, layer = _kept(config, 2, dtype, recomputes, num_levels, is_cpu)
    larger_total, larger_layer = _kept(config, 3, dtype, recomputes, num_levels, is_cpu)
    image, layer_image = larger_total - total, larger_layer - layer
    more = config.num_layers - 2
    copies = (total - 2 * image) + more * (layer - 2 * layer_image)
    return KeptBytes(copies, image + more * layer_image, layer_image)


def _kept(
    config: BiGRConfig,
    batch_size: int,
    dtype: torch.dtype,
    recomputes: bool,
    num_levels: int,
    is_cpu: bool,
) -> tuple[int, int]:
    """Return the bytes that a model with two layers keeps, and those of its second layer."""
    seen: dict[int, int] = {}
    after: list[int] = []  # the bytes after each layer
    alive: list[Tensor] = []  # so that no other storage gets the same address

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            seen[storage._cdata] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with FakeTensorMode(), torch.device("cpu"):
        model = BiGR(dataclasses.replace(config, num_layers=2))
        model.transformer.recomputes = recomputes
        for layer in model.transformer.layers:
            cast(TransformerLayer, layer).attention.is_fused = not is_cpu
            layer.register_forward_hook(lambda *_: after.append(sum(seen.values())))
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        codes = torch.zeros(batch_size, config.seq_len, config.code_dim)
        labels = torch.zeros(batch_size, dtype=torch.int64)
        draws = draw_training(config, batch_size, num_masked=config.seq_len, num_levels=num_levels)
        autocast = torch.autocast("cpu", dtype) if dtype != torch.float32 else None
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with autocast or contextlib.nullcontext(), hooks:
            outcome = model.loss(codes, labels, draws=draws)
        del outcome
    return sum(seen.values()), after[1] - after[0]


def step_memory(
    config: BiGRConfig,
    batch_size: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    num_weights: int,
    num_trained: int | None = None,
    layer_weights: int = 0,
    num_devices: int = 1,
    is_sharded: bool = False,
    has_average: bool = True,
    accumulates: bool = False,
    recomputes: bool = False,
    num_levels: int = 1,
    is_cpu: bool = False,
) -> StepMemory:
    """Return the memory of one device during a training step.

    Args:
        config: sizes of the generator.
        batch_size: images that the device processes at a time.
        dtype: type of the matrix products.
        num_weights: number of parameters.
        num_trained: number of those that are trained; None means all.
        layer_weights: number of parameters of one transformer layer; needed if ``is_sharded``.
        num_devices: number of devices.
        is_sharded: whether FSDP shards the weights; otherwise each device has all of them.
        has_average: whether an average of the weights is kept.
        accumulates: whether an optimiser step has several batches.
        recomputes: whether the activations of transformer layers are recomputed.
        num_levels: noise levels per token.
        is_cpu: whether the device is a CPU.
    """
    trained = num_weights if num_trained is None else num_trained
    kept = kept_bytes(config, dtype, num_levels=num_levels, is_cpu=is_cpu)
    activations = batch_size * kept.per_image
    if recomputes:
        less = kept_bytes(config, dtype, recomputes=True, num_levels=num_levels, is_cpu=is_cpu)
        activations = batch_size * (less.per_image + kept.layer)  # one layer at a time
    shares = num_devices if is_sharded else 1
    gathered = 0.0
    if is_sharded:
        # The weights outside of the layers stay gathered; of the layers, this one and the next.
        outside = num_weights - config.num_layers * layer_weights
        gathered = WEIGHT * (outside + 2 * layer_weights) * (1 - 1 / num_devices)
    return StepMemory(
        state=(WEIGHT * num_weights + (MOMENTS + AVERAGE * has_average) * trained) / shares,
        gradients=GRADIENT * trained / shares,
        copies=kept.copies,
        activations=activations,
        gathered=gathered,
        has_buffers=num_devices > 1 or accumulates,
    )
