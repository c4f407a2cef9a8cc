"""One process of many, with fake tensors and a process group that communicates nothing."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bigr import BiGR, BiGRConfig
from bigr.models.layers import Attention
from bigr.models.training_draws import draw_training
from bigr.training.optimizers import adamw
from bigr.training.sharding import local, shard


class Usage(NamedTuple):
    """What one training step takes on one device."""

    peak: int
    """The most bytes that were in use at a time."""
    communicated: dict[str, int]
    """Bytes of the whole tensors of each kind of communication."""


class Ledger(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and those that are communicated."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self.communicated: dict[str, int] = {}
        self._alive: dict[int, list[Any]] = {}
        self._resize = torch.UntypedStorage.resize_

    def add(self, tensor: Tensor) -> None:
        """Count the storage of a tensor, until it is freed."""
        storage = local(tensor).untyped_storage()
        key = id(storage)
        if key not in self._alive:
            gone = weakref.ref(storage, lambda _: self._drop(key))
            self._alive[key] = [storage.nbytes(), gone]
            self._change(storage.nbytes())

    def _drop(self, key: int) -> None:
        self._change(-self._alive.pop(key)[0])

    def _change(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def __enter__(self) -> Ledger:
        def resize(storage: Any, size: int) -> None:  # FSDP frees gathered weights this way
            self._resize(storage, size)
            if id(storage) in self._alive:
                entry = self._alive[id(storage)]
                self._change(storage.nbytes() - entry[0])
                entry[0] = storage.nbytes()

        torch.UntypedStorage.resize_ = resize
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch.UntypedStorage.resize_ = self._resize
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "c10d":
            sizes = [leaf.nbytes for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            name = func.overloadpacket.__name__.strip("_").removesuffix("_base")
            self.communicated[name] = self.communicated.get(name, 0) + max(sizes, default=0)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return result


class LossModule(nn.Module):
    """The loss as a forward pass, which DDP wraps."""

    def __init__(self, model: BiGR) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **settings: Any) -> Tensor:
        return self.model.loss(*args, **settings).loss


@contextlib.contextmanager
def process_group(num_ranks: int) -> Iterator[None]:
    dist.init_process_group("fake", rank=0, world_size=num_ranks, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def communicate(state, bucket):  # type: ignore[no-untyped-def]  # DDP checks the annotations
    """All-reduce a bucket of gradients, as DDP does itself, without waiting for a result."""
    dist.all_reduce(bucket.buffer())
    future: Any = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def training_usage(
    config: BiGRConfig, batch_size: int, strategy: str, num_ranks: int, *, recomputes: bool = False
) -> Usage:
    """Run a step of the generator in bf16-mixed, with all of its optimiser's state and its average.

    Args:
        config: sizes of the generator.
        batch_size: images of one device.
        strategy: ``single``, ``ddp`` or ``fsdp``.
        num_ranks: number of devices.
        recomputes: whether the activations of transformer layers are recomputed.
    """
    with process_group(num_ranks):
        mesh = init_device_mesh("cpu", (num_ranks,)) if strategy == "fsdp" else None
        with FakeTensorMode():
            model = BiGR(config).train()
            model.transformer.recomputes = recomputes
            for module in model.modules():
                if isinstance(module, Attention):
                    module.is_fused = True  # as on a GPU
            if mesh is not None:
                shard(model, mesh)
            optimizer = adamw(model, lr=1e-4)
            for parameter in model.parameters():  # a first step creates the moments
                parameter.grad = torch.empty_like(parameter)
            optimizer.step()
            optimizer.zero_grad()
            average = [local(parameter).detach().clone() for parameter in model.parameters()]
            moments = [one for state in optimizer.state.values() for one in state.values()]
            loss: nn.Module = LossModule(model)
            if strategy == "ddp":
                loss = nn.parallel.DistributedDataParallel(
                    loss, gradient_as_bucket_view=True, init_sync=False
                )
                loss.register_comm_hook(None, communicate)
            codes = torch.empty(batch_size, config.seq_len, config.code_dim)
            labels = torch.empty(batch_size, dtype=torch.int64)
            draws = draw_training(config, batch_size, num_masked=config.seq_len)
            ledger = Ledger()
            for tensor in (*model.parameters(), *model.buffers(), *average, *moments):
                ledger.add(tensor)
            with ledger:
                with torch.autocast("cpu", torch.bfloat16):
                    outcome = loss(codes, labels, draws=draws)
                outcome.backward()
                norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])
                nn.utils.clip_grads_with_norm_(list(model.parameters()), 1.0, norm)
                optimizer.step()
                optimizer.zero_grad()
    return Usage(ledger.peak, ledger.communicated)
