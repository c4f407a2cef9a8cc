"""Checkpoints that load, and those that must not."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bigr import load_autoencoder, load_generator
from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.export import save_released_autoencoder, save_released_generator
from bigr.checkpoints.load import check_pair, load_discriminator
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.checkpoints.released import generator_to_released
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from tests.models import tiny_autoencoder, tiny_generator


def equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def lightning_checkpoint(model: torch.nn.Module, kind: str, prefix: str) -> dict[str, Any]:
    config = dataclasses.asdict(model.config)  # type: ignore[call-overload]
    return {
        "state_dict": {prefix + name: tensor for name, tensor in model.state_dict().items()},
        "bigr": {"kind": kind, "config": config, "run": {}},
        "pytorch-lightning_version": "2.6.6",
    }


def test_own_format_keeps_weights_and_every_setting(tmp_path: Path) -> None:
    generator = tiny_generator(objective="x0", dropout=0.3)
    path = save_generator(generator, tmp_path / "generator.safetensors")
    for source in (path, str(path), tmp_path):
        loaded = load_generator(source)
        assert equal(loaded, generator)
        assert loaded.config == generator.config
        assert not loaded.training
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode  # others may read it, too
    assert torch.equal(loaded.transformer.rotary, generator.transformer.rotary)


def test_autoencoder_with_discriminator(tmp_path: Path) -> None:
    autoencoder = tiny_autoencoder()
    discriminator = PatchDiscriminator(DiscriminatorConfig(base_channels=4, num_layers=2)).eval()
    for name, save in (
        ("a.safetensors", save_autoencoder),
        ("a.th", save_released_autoencoder),
    ):
        path = save(autoencoder, tmp_path / name, discriminator=discriminator)
        assert equal(load_autoencoder(path), autoencoder)
        assert load_autoencoder(path).config == autoencoder.config
        loaded = load_discriminator(path)
        assert loaded is not None
        assert equal(loaded, discriminator)
        assert loaded.config == discriminator.config
    alone = save_autoencoder(autoencoder, tmp_path / "alone.safetensors")
    assert load_discriminator(alone) is None


def test_unused_weights_stay_frozen(tmp_path: Path) -> None:
    autoencoder = tiny_autoencoder()
    path = save_autoencoder(autoencoder, tmp_path / "a.safetensors")
    flags = {name: p.requires_grad for name, p in load_autoencoder(path).named_parameters()}
    assert flags == {name: p.requires_grad for name, p in autoencoder.named_parameters()}
    assert set(flags.values()) == {True, False}


def test_lightning_checkpoint(tmp_path: Path) -> None:
    generator, autoencoder = tiny_generator(), tiny_autoencoder()
    torch.save(lightning_checkpoint(generator, "generator", "model."), tmp_path / "g.ckpt")
    torch.save(
        lightning_checkpoint(autoencoder, "autoencoder", "autoencoder."), tmp_path / "a.ckpt"
    )
    assert equal(load_generator(tmp_path / "g.ckpt"), generator)
    assert load_generator(tmp_path / "g.ckpt").config == generator.config
    assert equal(load_autoencoder(tmp_path / "a.ckpt"), autoencoder)


def test_released_training_checkpoint_prefers_ema(tmp_path: Path) -> None:
    average, raw = (
        tiny_generator(seed, dim=64, num_heads=1, feed_forward_multiple=256) for seed in (0, 1)
    )
    content = {
        "model": generator_to_released(raw.state_dict(), 256),
        "ema": generator_to_released(average.state_dict(), 256),
        "opt": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "args": argparse.Namespace(lr=1e-4, model="BiGR"),
    }
    torch.save(content, tmp_path / "train.pt")
    assert equal(load_generator(tmp_path / "train.pt"), average)
    del content["ema"]
    torch.save(content, tmp_path / "raw.pt")
    assert equal(load_generator(tmp_path / "raw.pt"), raw)


def test_half_precision_is_loaded_as_float32(tmp_path: Path) -> None:
    generator = tiny_generator()
    path = save_generator(generator.to(torch.bfloat16), tmp_path / "half.safetensors")
    loaded = load_generator(path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.transformer.mask_token.bfloat16(), generator.transformer.mask_token)


def test_given_sizes_replace_the_stated_ones(tmp_path: Path) -> None:
    generator = tiny_generator()
    path = save_generator(generator, tmp_path / "g.safetensors")
    other = dataclasses.replace(generator.config, dropout=0.7, num_heads=4)
    assert load_generator(path, config=other).config == other


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("this must never be printed",))


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name to (file, what its message must say)."""
    generator = tiny_generator()
    good = save_generator(generator, folder / "good.safetensors")
    released = save_released_generator(generator, folder / "good.pt")
    autoencoder = save_autoencoder(tiny_autoencoder(), folder / "autoencoder.safetensors")

    def write(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    def saved(name: str, content: Any) -> Path:
        torch.save(content, folder / name)
        return folder / name

    def changed(name: str, **changes: Any) -> Path:
        tensors = {**generator.state_dict(), **changes}
        metadata = {
            "format": "bigr",
            "version": "1",
            "kind": "generator",
            "config": json.dumps(dataclasses.asdict(generator.config)),
        }
        kept = {k: v.contiguous() for k, v in tensors.items() if v is not None}
        save_file(kept, folder / name, metadata=metadata)
        return folder / name

    future = folder / "future.safetensors"
    save_file({"x": torch.ones(1)}, future, metadata={"format": "bigr", "version": "99"})
    empty_folder = folder / "empty"
    empty_folder.mkdir()
    return {
        "missing": (folder / "nowhere.pt", "There is no checkpoint"),
        "empty": (write("empty.pt", b""), "is empty"),
        "text": (write("text.pt", b"hello world\n" * 9), "neither a PyTorch nor a safetensors"),
        "web page": (write("page.pt", b"<!DOCTYPE html><html>"), "web page"),
        "git lfs": (write("lfs.pt", b"version https://git-lfs.github.com/spec/v1\n"), "git lfs"),
        "truncated zip": (write("cut.pt", released.read_bytes()[:5000]), "broken or cut off"),
        "truncated own": (
            write("cut.safetensors", good.read_bytes()[:5000]),
            "broken or cut off",
        ),
        "code in a zip": (saved("evil.pt", {"ema": Evil()}), "could run code"),
        "code in a pickle": (write("evil.pkl", pickle.dumps(Evil())), "could run code"),
        "code in an old pickle": (
            write("evil2.pkl", pickle.dumps(Evil(), protocol=2)),
            "could run code",
        ),
        "a list": (saved("list.pt", [torch.ones(2)]), "holds a list"),
        "an optimiser": (saved("opt.pt", {"lr": 1.0, "state": {}}), "neither a generator nor"),
        "another project": (saved("other.ckpt", {"state_dict": {}}), "another project"),
        "a B-AE": (autoencoder, "is a B-AE .* but a generator is needed"),
        "missing tensor": (
            changed("less.safetensors", **{"transformer.mask_token": None}),
            r"1 missing \(transformer.mask_token\)",
        ),
        "extra tensor": (
            changed("more.safetensors", extra=torch.ones(2)),
            r"1 unknown \(extra\)",
        ),
        "another shape": (
            changed("shape.safetensors", **{"transformer.norm.weight": torch.ones(7)}),
            r"transformer.norm.weight is \(7,\) instead of \(32,\)",
        ),
        "a newer version": (future, "version '99'.*Upgrade"),
        "folder without it": (empty_folder, "has no generator.safetensors"),
    }


NAMES = [
    *("missing", "empty", "text", "web page", "git lfs", "truncated zip", "truncated own"),
    *("code in a zip", "code in a pickle", "code in an old pickle", "a list", "an optimiser"),
    *("another project", "a B-AE", "missing tensor", "extra tensor", "another shape"),
    *("a newer version", "folder without it"),
]


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_used_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    files = broken_files(tmp_path)
    assert list(files) == NAMES
    path, message = files[name]
    with pytest.raises(CheckpointError, match=message) as caught:
        load_generator(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert capsys.readouterr().out == ""


def test_incomplete_released_file(tmp_path: Path) -> None:
    weights = generator_to_released(tiny_generator().state_dict(), 256)
    del weights["tok_embeddings.weight"]
    torch.save({"ema": weights}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=r"transformer.token_embedding.weight' is missing"):
        load_generator(tmp_path / "g.pt")


def test_width_that_is_no_multiple_of_64_needs_sizes(tmp_path: Path) -> None:
    generator = tiny_generator()
    torch.save({"ema": generator_to_released(generator.state_dict(), 256)}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match="how many attention heads"):
        load_generator(tmp_path / "g.pt")
    assert equal(load_generator(tmp_path / "g.pt", config=generator.config), generator)


def test_pairs_must_fit() -> None:
    check_pair(tiny_generator(), tiny_autoencoder())
    with pytest.raises(CheckpointError, match=r"code_dim 5 .* decodes code_dim 6"):
        check_pair(tiny_generator(code_dim=5), tiny_autoencoder())
    with pytest.raises(CheckpointError, match=r"grid_size 4 .* decodes grid_size 8"):
        check_pair(tiny_generator(), tiny_autoencoder(image_size=16))


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_generator(tiny_generator(0), tmp_path / "g.safetensors")
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        save_generator(tiny_generator(1), path)
    assert path.read_bytes() == before
