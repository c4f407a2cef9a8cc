"""The memory of a training step that is computed before the run."""

from __future__ import annotations

import pytest
import torch

from bigr import BiGR, BiGRConfig
from bigr.training.step_memory import StepMemory, kept_bytes, step_memory
from tests.models import TINY

CONFIG = BiGRConfig(**{**TINY, "dim": 64, "num_layers": 3})


def kept(batch: int, dtype: torch.dtype) -> int:
    """Bytes of the storages, other than weights, that autograd keeps of real tensors."""
    model = BiGR(CONFIG).train()
    parameters = {p.data_ptr() for p in model.parameters()}
    storages: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32),
    ):
        codes = torch.zeros(batch, CONFIG.seq_len, CONFIG.code_dim)
        loss = model.loss(codes, torch.zeros(batch, dtype=torch.int64)).loss
    del loss
    return sum(storages.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_activations_are_what_autograd_keeps(dtype: torch.dtype) -> None:
    """Against real tensors of a model with three layers."""
    per_image = (kept(5, dtype) - kept(2, dtype)) / 3
    copies = kept(2, dtype) - 2 * per_image
    measured = kept_bytes(CONFIG, dtype, is_cpu=True)
    assert measured.per_image == pytest.approx(per_image, rel=0.03)
    assert measured.copies == pytest.approx(copies, rel=0.1, abs=2000)


def test_fused_attention_keeps_no_weights() -> None:
    """The estimate for a GPU leaves out the H * L^2 weights of each image and layer."""
    sizes = BiGRConfig(**{**TINY, "dim": 64, "grid_size": 16})
    gpu, cpu = kept_bytes(sizes, torch.bfloat16), kept_bytes(sizes, torch.bfloat16, is_cpu=True)
    weights = 2 * sizes.num_heads * (sizes.seq_len + 1) ** 2  # bytes
    assert cpu.layer - gpu.layer == pytest.approx(weights, rel=0.3)
    assert kept_bytes(sizes) == kept_bytes(sizes, is_cpu=True)  # fused in float32


def test_recomputing_keeps_a_fraction() -> None:
    deep = BiGRConfig(**{**TINY, "dim": 64, "num_layers": 12})
    assert kept_bytes(deep, recomputes=True).per_image < 0.3 * kept_bytes(deep).per_image


def test_gradients_take_the_place_of_activations_on_one_device() -> None:
    """Several devices have buffers for them from the start."""
    alone = StepMemory(state=16.0, gradients=4.0, copies=1.0, activations=9.0)
    assert alone.peak == 16 + 1 + 9
    few = StepMemory(state=16.0, gradients=4.0, copies=1.0, activations=2.0)
    assert few.peak == 16 + 4
    several = StepMemory(16.0, 4.0, 1.0, 9.0, has_buffers=True)
    assert several.peak == 16 + 4 + 1 + 9


def test_sharding_divides_what_belongs_to_weights() -> None:
    settings = {"num_weights": 1_000_000, "layer_weights": 300_000, "num_devices": 4}
    whole = step_memory(CONFIG, 2, **settings)
    shared = step_memory(CONFIG, 2, **settings, is_sharded=True)
    assert (whole.state, shared.state) == (16e6, 4e6)
    assert (whole.gradients, shared.gradients) == (4e6, 1e6)
    # 100,000 weights outside of the layers and two layers, three quarters of which are elsewhere.
    assert (whole.gathered, shared.gathered) == (0, 4 * 700_000 * 0.75)
    assert shared.activations == whole.activations == 2 * kept_bytes(CONFIG, torch.bfloat16)[1]


def test_frozen_weights_have_neither_moments_nor_gradients() -> None:
    need = step_memory(CONFIG, 1, num_weights=1000, num_trained=10, has_average=False)
    assert (need.state, need.gradients) == (4 * 1000 + 8 * 10, 4 * 10)
