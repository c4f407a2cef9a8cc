"""Resuming an epoch with another division of the same global batch."""

from __future__ import annotations

import multiprocessing
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from bigr.training.data.image_data import DigitsDataModule
from bigr.training.data.resumable_data import loader_processes


def trainer_of(rank: int, world_size: int, accumulated: int) -> Any:
    return SimpleNamespace(
        global_rank=rank, world_size=world_size, accumulate_grad_batches=accumulated
    )


def samples(
    batch_size: int, world_size: int, accumulated: int, before: dict[str, int] | None = None
) -> list[set[int]]:
    """The samples of the first three steps."""
    steps: list[set[int]] = [set() for _ in range(3)]
    for rank in range(world_size):
        data = DigitsDataModule(batch_size=batch_size, seed=4)
        data.setup("fit")
        data.trainer = trainer_of(rank, world_size, accumulated)
        if before is not None:
            data.load_state_dict(before)
        order = data.train_order(data.num_images("train"))
        batches = list(order)
        for index in range(3 * accumulated):
            steps[index // accumulated] |= set(batches[index])
    return steps


@pytest.mark.parametrize(("batch_size", "world_size", "accumulated"), [(4, 2, 1), (2, 2, 2)])
def test_the_same_samples_on_other_devices(
    batch_size: int, world_size: int, accumulated: int
) -> None:
    alone = samples(8, 1, 1)
    assert samples(batch_size, world_size, accumulated) == alone
    state = {"consumed": 1, "accumulated": 1, "images": 8}
    assert samples(batch_size, world_size, accumulated, state)[:2] == alone[1:]


def test_another_global_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"16 images per step, and this run has 8: set global_bat"):
        samples(8, 1, 1, {"consumed": 1, "accumulated": 1, "images": 16})


@pytest.mark.parametrize(("count", "world_size"), [(10, 3), (2, 4)])
def test_validation_is_shared_and_nobody_is_without_a_sample(count: int, world_size: int) -> None:
    data, found = DigitsDataModule(batch_size=2), []
    for rank in range(world_size):
        data.trainer = trainer_of(rank, world_size, 1)
        batches = data.validation_order(count)
        assert batches
        assert all(len(batch) <= 2 for batch in batches)
        found += [index for batch in batches for index in batch]
    assert set(found) == set(range(count))
    assert len(found) == max(count, world_size)


def test_at_most_one_loader_process_per_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert [loader_processes(wanted) for wanted in (0, 3, 8)] == [0, 3, 3]
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert loader_processes(8) == 1


def test_loaders_survive_a_closed_terminal() -> None:
    """All processes of a terminal receive SIGHUP; the run still needs batches to end its step."""
    data = DigitsDataModule(batch_size=8, num_workers=1)
    data.setup("fit")
    batches = iter(data.train_dataloader())
    next(batches)
    (loader,) = multiprocessing.active_children()
    assert loader.pid is not None
    os.kill(loader.pid, signal.SIGHUP)
    assert len([next(batches) for _ in range(10)]) == 10
