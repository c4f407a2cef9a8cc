"""What a run says before its first step."""

from __future__ import annotations

import torch

from bigr import BiGR, BiGRConfig
from bigr.training.callbacks.run_plan import activation_bytes
from tests.models import TINY


def test_activations_are_what_autograd_keeps() -> None:
    """Against the growth of real saved tensors from one image to three."""
    config = BiGRConfig(**{**TINY, "dim": 64, "num_layers": 3})

    def kept(batch: int) -> int:
        model = BiGR(config).train()
        parameters = {p.data_ptr() for p in model.parameters()}
        storages: dict[int, int] = {}
        alive = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            alive.append(tensor)
            if tensor.untyped_storage().data_ptr() not in parameters:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            codes = torch.zeros(batch, config.seq_len, config.code_dim)
            loss = model.loss(codes, torch.zeros(batch, dtype=torch.int64)).loss
        del loss
        return sum(storages.values())

    measured = (kept(5) - kept(1)) / 4
    assert abs(activation_bytes(config) / measured - 1) < 0.1


def test_recomputing_keeps_a_fraction() -> None:
    config = BiGRConfig(**{**TINY, "dim": 64, "num_layers": 12})
    assert activation_bytes(config, recomputes=True) < 0.3 * activation_bytes(config)
