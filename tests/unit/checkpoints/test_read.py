"""Recognition of checkpoint files by content; what is wrong with them is checked in test_load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.export import save_released_autoencoder, save_released_generator
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.checkpoints.read import read_checkpoint
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
        assert read_checkpoint(path).kind == kind
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
        read_checkpoint(tmp_path)


def test_unknown_kind(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    metadata = {"format": "bigr", "version": "1", "kind": "upscaler", "config": "{}"}
    save_file({"x": torch.ones(1)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="kind 'upscaler'; supported are generator, autoenc"):
        read_checkpoint(path)


def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "generator.safetensors")
    with pytest.raises(CheckpointError, match=r"generator\.safetensors is not a regular file"):
        read_checkpoint(tmp_path / "generator.safetensors")
    with pytest.raises(CheckpointError, match=r"has no generator\.safetensors"):
        read_checkpoint(tmp_path, "generator")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(2**40),
        torch.zeros(1, 6).expand(2**38, 6),
        torch.zeros(2**40, device="meta"),
        torch.sparse_coo_tensor(
            torch.zeros(2, 0), torch.zeros(0), (2**20, 2**20), check_invariants=True
        ),
    ],
    ids=["4 TB", "6 TB", "no values", "sparse"],
)
@pytest.mark.parametrize("name", ["tok_embeddings.weight", "layers.0.ada_gss", "bigr.config"])
def test_tensors_that_are_not_in_the_file(tmp_path: Path, tensor: torch.Tensor, name: str) -> None:
    """Nothing of their size is allocated."""
    path = tmp_path / "g.pt"
    torch.save({"mask_tok": torch.zeros(1, 32), name: tensor}, path)
    with pytest.raises(CheckpointError, match=r"g\.pt has only .* bytes and does not contain all"):
        read_checkpoint(path)


def test_tensors_that_share_their_values(tmp_path: Path) -> None:
    """Each of them fits into the file, but the network would take a thousand times as much."""
    shared = torch.zeros(32, 32)
    content = {f"layers.{index}.attention.wo.weight": shared for index in range(1000)}
    torch.save({"mask_tok": torch.zeros(1, 32), **content}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match="does not contain all values"):
        read_checkpoint(tmp_path / "g.pt")


@pytest.mark.parametrize(
    "about",
    [
        *({"kind": kind, "config": {}} for kind in ([], 3, None)),
        *({"kind": "generator", "config": config} for config in ("{}", [1], None, {1: 2})),
        {"kind": "generator"},
    ],
)
def test_malformed_entries_of_a_lightning_checkpoint(tmp_path: Path, about: Any) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"model.x": torch.ones(1), 3: "x"}, "bigr": about}, path)
    with pytest.raises(CheckpointError, match=r"a\.ckpt") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000])
def test_malformed_configurations(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.safetensors"
    metadata = {"format": "bigr", "version": "1", "kind": "generator", "config": text}
    save_file({"x": torch.ones(1)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"The configuration in .*a\.safetensors is not"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "config", [torch.tensor(3.5), torch.ones(2, 2), torch.tensor([200, 201], dtype=torch.uint8)]
)
def test_configurations_in_a_tensor_that_are_no_text(tmp_path: Path, config: torch.Tensor) -> None:
    torch.save({"mask_tok": torch.zeros(1, 32), "bigr.config": config}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=r"g\.pt"):
        read_checkpoint(tmp_path / "g.pt")
