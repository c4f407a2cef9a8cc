"""The file of weights after a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bigr import load_autoencoder, load_generator
from bigr.training.callbacks.weight_export import ExportWeights
from tests.models import tiny_autoencoder, tiny_generator
from tests.tiny_training import LinearModule


@pytest.mark.parametrize("kind", ["generator", "autoencoder"])
def test_the_file_holds_the_weights(tmp_path: Path, kind: str) -> None:
    network: Any = tiny_generator() if kind == "generator" else tiny_autoencoder()
    module = LinearModule()
    setattr(module, "model" if kind == "generator" else "autoencoder", network)
    trainer: Any = SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path / "run")
    ExportWeights().on_fit_end(trainer, module)
    loaded = (load_generator if kind == "generator" else load_autoencoder)(
        tmp_path / "run" / f"{kind}.safetensors"
    )
    assert loaded.config == network.config
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_other_modules_are_skipped(tmp_path: Path) -> None:
    module = LinearModule()
    module.model = torch.nn.Linear(1, 1)
    trainer: Any = SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path)
    ExportWeights().on_fit_end(trainer, module)
    assert not list(tmp_path.iterdir())
