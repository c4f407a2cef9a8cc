"""The file of weights after a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bigr import load_autoencoder, load_generator
from bigr.convert import main as convert
from bigr.training.callbacks.weight_export import ExportError, ExportWeights
from tests.disk import full_disk
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


def lightning_checkpoint(network: Any) -> dict[str, Any]:
    weights = {f"model.{name}": weight for name, weight in network.state_dict().items()}
    about = {"kind": "generator", "config": dataclasses.asdict(network.config)}
    return {"state_dict": weights, "bigr": about}


@pytest.mark.parametrize("has_old_export", [False, True])
def test_a_full_disk(tmp_path: Path, has_old_export: bool) -> None:
    """The message contains the command that exports the weights later."""
    network, module, path = tiny_generator(), LinearModule(), tmp_path / "generator.safetensors"
    module.model = network
    saver = SimpleNamespace(folder=tmp_path / "checkpoints")
    trainer: Any = SimpleNamespace(is_global_zero=True, checkpoint_callbacks=[saver], global_step=3)
    if has_old_export:
        path.write_text("old")
    with full_disk(), pytest.raises(ExportError, match="There is no checkpoint of this run"):
        ExportWeights(str(tmp_path)).on_fit_end(trainer, module)
    saver.folder.mkdir()
    torch.save(lightning_checkpoint(network), saver.folder / "step_00000003.ckpt")
    torch.save({}, saver.folder / "step_00000009.ckpt")  # of a run that was abandoned
    with full_disk(), pytest.raises(ExportError, match="File too large") as caught:
        ExportWeights(str(tmp_path)).on_fit_end(trainer, module)
    assert "\n" not in str(caught.value)
    assert (path.read_text() == "old") if has_old_export else not path.exists()
    assert not list(tmp_path.rglob(".*"))
    command = str(caught.value).partition("python -m bigr.convert ")[2]
    convert(command.split())
    for name, weight in load_generator(path).state_dict().items():
        assert torch.equal(weight, network.state_dict()[name]), name
    trainer.global_step = 4
    with full_disk(), pytest.raises(ExportError, match=r"step 3 of 4\. .* resume=auto"):
        ExportWeights(str(tmp_path)).on_fit_end(trainer, module)
