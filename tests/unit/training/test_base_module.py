"""The position of a batch in its step, seeds, and what a factory is checked for."""

from __future__ import annotations

import functools
import operator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from bigr import BiGRConfig
from bigr.training.base_module import (
    BatchPlace,
    Frozen,
    batch_place,
    batches_per_step,
    is_logged,
    seed_generators,
)
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.models import TINY


def trainer_of(counter: int, rank: int, world_size: int, accumulated: int) -> Any:
    """Return what knows the place of a batch: ``counter`` batches are done."""
    trainer = SimpleNamespace(
        global_rank=rank, world_size=world_size, accumulate_grad_batches=accumulated
    )
    progress = SimpleNamespace(total=SimpleNamespace(processed=counter))
    trainer.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    trainer.lightning_module = SimpleNamespace(trainer=trainer)
    return trainer


@pytest.mark.parametrize(("world_size", "accumulated"), [(1, 1), (2, 1), (1, 4), (2, 2)])
def test_places_cover_the_global_batch(world_size: int, accumulated: int) -> None:
    """However 8 images are divided, each of them has one place in the same step."""
    size = 8 // world_size // accumulated
    rows: list[int] = []
    for part in range(accumulated):
        for rank in range(world_size):
            counter = 5 * accumulated + part
            place = batch_place(trainer_of(counter, rank, world_size, accumulated), size)
            assert (place.step, place.total) == (5, 8)
            rows += list(range(8))[place.rows]
    assert sorted(rows) == list(range(8))


def test_a_static_graph_needs_one_batch_per_step() -> None:
    """PyTorch issue 143580: with ``no_sync``, it fails or does not average gradients."""
    module = GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3))
    static = {"strategy": DDPStrategy(static_graph=True), "accumulate_grad_batches": 1}
    assert module.configure_trainer(static, 2) == static
    with pytest.raises(ValueError, match=r"strategy\.static_graph=true does not work with"):
        module.configure_trainer({**static, "accumulate_grad_batches": 2}, 2)
    ordinary = {"strategy": DDPStrategy(), "accumulate_grad_batches": 2}
    assert module.configure_trainer(ordinary, 2) == ordinary


def test_the_generator_of_a_place_depends_on_seed_and_step_alone() -> None:
    def draw(seed: int, place: BatchPlace) -> float:
        return torch.rand(1, generator=place.generator(seed, "cpu")).item()

    first, other = BatchPlace(3, 8, slice(0, 4)), BatchPlace(3, 8, slice(4, 8))
    assert draw(1, first) == draw(1, other)
    assert len({draw(1, first), draw(2, first), draw(1, first._replace(step=4))}) == 3


def test_frozen_networks_are_no_part_of_the_module() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = Frozen(nn.Linear(2, 2))

    holder = Holder()
    assert not list(holder.parameters())
    network = holder.frozen.on(torch.device("cpu"))
    assert network is not None
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert Frozen(None).on(torch.device("cpu")) is None
    assert next(holder.frozen.on(torch.device("meta")).parameters()).is_meta


def test_seeding_leaves_nothing_behind() -> None:
    """``torch.manual_seed`` would keep a stack trace of every step for devices not in use."""
    queue_of = operator.attrgetter("_queued_calls")
    queues = [queue_of(kind) for kind in (torch.cuda, torch.mtia, torch.xpu)]
    before = [len(queue) for queue in queues]
    seed_generators(5)
    first = torch.rand(3)
    assert [len(queue) for queue in queues] == before
    torch.manual_seed(5)
    assert torch.equal(first, torch.rand(3))


def test_unknown_arguments_of_a_factory() -> None:
    module = GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3, momentum=0.9))
    with pytest.raises(ValueError, match=r"task\.optimizer .*adamw.* 'momentum'"):
        module.check(None)


def test_accumulation_of_either_side() -> None:
    trainer: Any = SimpleNamespace(accumulate_grad_batches=1, log_every_n_steps=5)
    module: Any = SimpleNamespace(accumulate_grad_batches=4)
    assert batches_per_step(trainer, module) == 4
    assert [step for step in range(1, 11) if is_logged(trainer, step)] == [5, 10]
