"""Every configuration of ours is valid, and a mistake is named where it was written."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.entry import quote_numbers
from bigr.cli.models import provisional
from bigr.cli.validation import leaves, validate

EXPERIMENTS = sorted((config_dir() / "experiment").rglob("*.yaml"))
OPTIONS = [
    (command, f"{group}={path.stem}")
    for command, group in (
        *(("train", name) for name in ("callbacks", "trainer", "strategy", "sampler", "task")),
        *(("sample", name) for name in ("application", "sampler")),
        *(("evaluate", name) for name in ("evaluation", "logger")),
        *(("demo", name) for name in ("sampler",)),
    )
    for path in sorted((config_dir() / group).glob("*.yaml"))
]


@pytest.fixture(autouse=True)
def _hydra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def check(command: str, *overrides: str, is_filled: bool = True) -> None:
    """Compose and validate as a command does, with the missing values filled in."""
    words = ["hydra.runtime.output_dir=out", "hydra.job.num=0", "hydra.job.id=0"]
    config = hydra.compose(command, quote_numbers([*words, *overrides]), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    container: Any = OmegaConf.to_container(config)
    for key, value in leaves(container):
        if value == "???" and is_filled:
            OmegaConf.update(config, key, ".")
    entry = importlib.import_module(f"bigr.{command}")
    (settings,) = [value for name, value in vars(entry).items() if name.endswith("Settings")]
    validate(provisional(config), settings)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments(path: Any) -> None:
    name = path.relative_to(config_dir() / "experiment").with_suffix("")
    command = re.search(r"python -m bigr\.(\w+) experiment", path.read_text())
    assert command is not None
    check(command[1], f"experiment={name}")


@pytest.mark.parametrize(("command", "override"), OPTIONS, ids=lambda part: str(part))
def test_options(command: str, override: str) -> None:
    check(command, override)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+seeds=1", "seed=null"], "^seed must be"),
        (["experiment=digits"], "^views: there is no such key in bigr.train"),
        (["task.optimizer.lr=${seed}x"], r"^task\.optimizer\.lr must be a number or a Tensor"),
        (["++task._partial_=3"], r"task\._partial_ must be true or false, got 3"),
        (["++task._convert_=some"], r"task\._convert_ must be one of none, partial, object, all"),
    ],
)
def test_mistakes(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check("train", "experiment=digits_autoencoder", *overrides)


def test_an_interruption_of_an_import_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing PyTorch takes seconds, in which users press Ctrl-C."""
    (tmp_path / "slow_import.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    config = OmegaConf.create({"evaluation": {"_target_": "slow_import.Evaluation"}})
    with pytest.raises(KeyboardInterrupt):
        validate(config)


def test_missing_values_are_explained_by_their_files() -> None:
    with pytest.raises(ValueError, match=r"application\.image .a picture of any size; the centre"):
        check("sample", "application=edit", "pretrained=digits", is_filled=False)
