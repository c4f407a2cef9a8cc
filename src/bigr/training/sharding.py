"""Weights spread over devices (FSDP2): sharding them, and getting at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
from torch import Tensor, nn

from bigr.models.bigr import BiGR


def shard(model: BiGR, mesh: Any) -> None:
    """Spread every transformer layer, and the rest of the generator as one piece.

    Args:
        model: changed in place.
        mesh: one-dimensional device mesh.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for layer in model.transformer.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "loss")


def is_sharded(module: nn.Module) -> bool:
    """Whether its parameters are spread over devices."""
    return any(hasattr(part, "reshard") for part in module.modules())


def reshard(module: nn.Module) -> None:
    """Spread them again: after a forward pass the last ones are still together."""
    for part in module.modules():
        if hasattr(part, "reshard"):
            part.reshard()  # type: ignore[operator]


def local(tensor: Tensor) -> Tensor:
    """This process's part, sharing memory; the tensor itself if it isn't spread."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor, put together from all processes if it is spread: all have to ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def whole_weights(trainer: lightning.Trainer) -> dict[str, Any]:
    """The module's ``state_dict``, put together; all processes have to ask, the first gets it."""
    return trainer.strategy.lightning_module_state_dict()


def load_whole(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill a module, spread or not, from whole tensors."""
    if not is_sharded(module):
        module.load_state_dict(weights)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(module, dict(weights), options=options)
