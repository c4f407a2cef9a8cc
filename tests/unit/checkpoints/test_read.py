"""Recognition of checkpoint files by content; what is wrong with them is checked in test_load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.export import save_released_autoencoder, save_released_generator
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.checkpoints.read import kind_of, read_checkpoint
from tests.models import tiny_autoencoder, tiny_generator


def test_suffixes_do_not_matter(tmp_path: Path) -> None:
    generator, autoencoder = tiny_generator(), tiny_autoencoder()
    files = {
        save_generator(generator, tmp_path / "a.th"): "generator",
        save_released_generator(generator, tmp_path / "b.safetensors"): "generator",
        save_autoencoder(autoencoder, tmp_path / "c.pt"): "autoencoder",
        save_released_autoencoder(autoencoder, tmp_path / "d.ckpt"): "autoencoder",
    }
    for path, kind in files.items():
        assert kind_of(path) == kind
        assert read_checkpoint(path, kind).kind == kind


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixes_of_wrappers_are_removed(tmp_path: Path, prefix: str) -> None:
    """DistributedDataParallel and torch.compile add them."""
    state = tiny_generator().state_dict()
    path = tmp_path / "wrapped.safetensors"
    save_file({prefix + name: tensor.contiguous() for name, tensor in state.items()}, path)
    found = read_checkpoint(path, "generator")
    assert found.weights.keys() == state.keys()
    assert found.config is None


def test_configuration_of_an_exported_autoencoder(tmp_path: Path) -> None:
    """The name of its tensor belongs to the file format and must never change."""
    autoencoder = tiny_autoencoder()
    path = save_released_autoencoder(autoencoder, tmp_path / "a.th")
    content = torch.load(path, weights_only=True)
    assert "bigr.config" in content
    found = read_checkpoint(path, "autoencoder")
    assert found.config is not None
    assert found.config["code_dim"] == autoencoder.config.code_dim
    assert found.weights.keys() == autoencoder.state_dict().keys()


def test_directory(tmp_path: Path) -> None:
    save_generator(tiny_generator(), tmp_path / "generator.safetensors")
    assert read_checkpoint(tmp_path, "generator").path == tmp_path / "generator.safetensors"
    with pytest.raises(CheckpointError, match=r"no autoencoder.safetensors; it contains generator"):
        read_checkpoint(tmp_path, "autoencoder")
    with pytest.raises(CheckpointError, match="is a directory: give the path of a file"):
        kind_of(tmp_path)


def test_unknown_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    metadata = {"format": "bigr", "version": "1", "kind": "upscaler", "config": "{}"}
    save_file({"x": torch.ones(1)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="kind 'upscaler'; supported are generator, autoenc"):
        kind_of(path)
