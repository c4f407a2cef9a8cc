"""Files in the format of this project: their checksum, and what happens on a full disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bigr import load_autoencoder, load_generator
from bigr.checkpoints.errors import CheckpointError, SaveError
from bigr.checkpoints.export import save_released_autoencoder, save_released_generator
from bigr.checkpoints.native import content_sha256, save_autoencoder, save_generator
from tests.disk import full_disk
from tests.models import tiny_autoencoder, tiny_generator


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(str(path), "pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata()  # noqa: SIM118


def test_the_checksum_covers_the_bytes_in_the_file(tmp_path: Path) -> None:
    """Computed again from the raw file, whose layout is that of safetensors."""
    data = save_generator(tiny_generator(), tmp_path / "g.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    expected = metadata.pop("bigr.sha256")
    layout = [[name, "torch.float32", header[name]["shape"]] for name in sorted(header)]
    digest = hashlib.sha256(json.dumps([metadata, layout], sort_keys=True).encode())
    for name in sorted(header):
        assert header[name]["dtype"] == "F32"
        start, end = header[name]["data_offsets"]
        digest.update(data[8 + length :][start:end])
    assert digest.hexdigest() == expected


def test_the_checksum_depends_on_everything() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.zeros(2, dtype=torch.bfloat16)}
    metadata = {"kind": "generator"}
    others: list[tuple[dict[str, torch.Tensor], dict[str, str]]] = [
        ({**tensors, "a": torch.arange(6.0) + 1}, metadata),
        ({**tensors, "a": torch.arange(6.0).reshape(2, 3)}, metadata),
        ({**tensors, "a": torch.arange(6.0).view(torch.int32)}, metadata),
        ({"c": tensors["a"], "b": tensors["b"]}, metadata),
        (tensors, {"kind": "autoencoder"}),
        (tensors, {"kind": "generator", "classes": "[]"}),
        (tensors, {}),
    ]
    values = {content_sha256(*pair) for pair in [(tensors, metadata), *others]}
    assert len(values) == 1 + len(others)
    turned = {"b": tensors["b"], "a": tensors["a"]}
    assert content_sha256(turned, metadata) == content_sha256(tensors, metadata)


@pytest.mark.parametrize("change", ["a weight", "the configuration", "another key"])
def test_a_changed_file_is_refused(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change is one that would load, and does with ``BIGR_VERIFY=0``."""
    tensors, metadata = parts(save_generator(tiny_generator(), tmp_path / "g.safetensors"))
    if change == "a weight":
        tensors["transformer.norm.weight"][3] += 1
    elif change == "the configuration":
        metadata["config"] = metadata["config"].replace('"objective": "flip"', '"objective": "x0"')
    else:
        metadata["note"] = "added later"
    path = tmp_path / "changed.safetensors"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"changed\.safetensors is damaged: .* SHA-256"):
        load_generator(path)
    monkeypatch.setenv("BIGR_VERIFY", "0")
    load_generator(path)


def test_files_without_a_checksum_are_read(tmp_path: Path) -> None:
    """Those of earlier versions, and those of other programs."""
    generator = tiny_generator()
    tensors, metadata = parts(save_generator(generator, tmp_path / "g.safetensors"))
    del metadata["bigr.sha256"]
    save_file(tensors, tmp_path / "old.safetensors", metadata=metadata)
    assert load_generator(tmp_path / "old.safetensors").config == generator.config
    save_file(tensors, tmp_path / "foreign.safetensors", metadata={"sha256": "of something else"})
    loaded = load_generator(tmp_path / "foreign.safetensors", config=generator.config)
    assert torch.equal(loaded.transformer.mask_token, generator.transformer.mask_token)


@pytest.mark.parametrize(
    ("save", "model"),
    [
        (save_generator, tiny_generator),
        (save_autoencoder, tiny_autoencoder),
        (save_released_generator, tiny_generator),
        (save_released_autoencoder, tiny_autoencoder),
    ],
)
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, save: Callable[[Any, Path], Path], model: Callable[[int], Any]
) -> None:
    path = save(model(0), tmp_path / "weights.safetensors")
    before = path.read_bytes()
    with (
        full_disk(),
        pytest.raises(SaveError, match=r"weights\.safetensors could not be written: .*File to"),
    ):
        save(model(1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_discriminator_weights_are_covered(tmp_path: Path) -> None:
    path = save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    tensors, metadata = parts(path)
    tensors["discriminator.layers.0.weight"] = torch.ones(1)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="damaged"):
        load_autoencoder(path)
