"""The number of processes, and the ranges of the trainer's settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from bigr.cli.launching import (
    LAUNCHERS,
    RANKS,
    check_launcher,
    check_trainer,
    is_first_process,
    lightning_accelerator,
    processes,
)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


def settings(**values: Any) -> Any:
    return OmegaConf.create({"device": "cpu", "devices": 1, "num_nodes": 1, **values})


def test_one_process_starts_nothing() -> None:
    alone = processes(settings())
    assert (alone.rank, alone.count, alone.is_first, alone.device) == (0, 1, True, None)


@pytest.mark.parametrize(
    ("values", "is_shared", "message"),
    [
        ({"num_nodes": 2}, True, "num_nodes=2, but nothing says which node this is"),
        ({"devices": 2}, False, "2 processes were requested, but this evaluation or"),
        ({"devices": 2, "device": "cuda:1"}, True, "device=cuda:1 is one device"),
    ],
)
def test_contradictions(values: dict[str, Any], is_shared: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processes(settings(**values), is_shared=is_shared)


def test_launchers_say_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_NNODES", "2")
    with pytest.raises(ValueError, match="8 processes were requested"):
        processes(settings(), is_shared=False)
    check_launcher("num_nodes", 2)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", "6")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="6 processes were requested"):
        processes(settings(), is_shared=False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"log_every_n_steps": 0}, "trainer.log_every_n_steps must be a positive integer"),
        ({"max_steps": -2}, "trainer.max_steps must be an integer of at least -1, got -2"),
        ({"max_epochs": "ten"}, "trainer.max_epochs must be an integer of at least -1 or null"),
        ({"num_nodes": 0}, "trainer.num_nodes must be a positive integer, got 0"),
        ({"num_nodes": 2}, "trainer.num_nodes=2, but nothing says which node"),
        ({"devices": "b"}, "trainer.devices=b: it can be auto, a number of devices"),
        ({"devices": 10**10}, "trainer.devices must be an integer between -1 and 1024"),
        ({"val_check_interval": {}}, "trainer.val_check_interval must be an integer, a number"),
        ({"val_check_interval": 0}, "trainer.val_check_interval must be above 0 or null"),
    ],
)
def test_trainer(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_trainer({"devices": 1, **values})


def test_trainer_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trainer({"accelerator": "cpu", "max_epochs": None, "val_check_interval": 0.5})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_trainer({"accelerator": "gpu"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match="PyTorch finds no CUDA GPU: use trainer=cpu"):
        check_trainer({"accelerator": "gpu"})


@pytest.mark.parametrize("name", ["mps", "xpu", "tpu"])
def test_accelerators_that_are_not_supported(name: str) -> None:
    with pytest.raises(ValueError, match=f"trainer.accelerator={name} is not supported"):
        check_trainer({"accelerator": name})


@pytest.mark.parametrize("has_cuda", [True, False])
def test_lightning_takes_no_other_gpus(has_cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where Lightning itself would take Apple's."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    found = [lightning_accelerator(name) for name in ("auto", "gpu", "cuda", "cpu")]
    assert found == ["cuda" if has_cuda else "cpu", "cuda", "cuda", "cpu"]


@pytest.mark.parametrize(
    ("variables", "is_first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_the_first_process(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_first: bool
) -> None:
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is is_first
