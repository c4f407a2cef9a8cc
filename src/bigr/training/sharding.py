"""Weights that are sharded over devices (FSDP2), and access to the whole of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn

from bigr.models.bigr import BiGR


def fully_sharded(world_size: int) -> ModelParallelStrategy:
    """Return the strategy that shards weights, gradients, optimiser and EMA over all devices.

    A checkpoint is one file, from which a run with any number of devices, or DDP, can resume.

    Args:
        world_size: number of devices on all nodes; ``bigr.train`` supplies it.
    """
    return ModelParallelStrategy(
        data_parallel_size=world_size, tensor_parallel_size=1, save_distributed_checkpoint=False
    )


def shard(model: BiGR, mesh: Any) -> None:
    """Shard each transformer layer, and the rest of the generator as one piece.

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
    """Return whether the parameters of ``module`` are sharded."""
    return any(hasattr(part, "reshard") for part in module.modules())


def reshard(module: nn.Module) -> None:
    """Shard the parameters that a forward pass has left unsharded."""
    for part in module.modules():
        if hasattr(part, "reshard"):
            part.reshard()  # type: ignore[operator]


def local(tensor: Tensor) -> Tensor:
    """Return this process's shard, sharing memory, or the tensor itself if it is not sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the unsharded tensor. All processes have to call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def whole_weights(trainer: Trainer) -> dict[str, Any]:
    """Return the module's unsharded ``state_dict`` on rank 0. All processes have to call it."""
    return trainer.strategy.lightning_module_state_dict()


def load_whole(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load unsharded weights into a module, which may be sharded."""
    if not is_sharded(module):
        module.load_state_dict(weights)
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(module, dict(weights), options=options)
