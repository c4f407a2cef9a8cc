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
from bigr.models.model_settings import ModelSettings
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


KNOWN = ModelSettings(
    class_names=("cat", "größer", "\u2028"),
    sampler={"guidance_scale": 3.0, "order": "random"},
    image_size=8,
    autoencoder_sha256="0123456789abcdef" * 4,
)


def test_settings_in_every_format(tmp_path: Path) -> None:
    """They come back the same from all formats, and a file without any has none."""
    generator = tiny_generator()
    bare = save_generator(generator, tmp_path / "a.safetensors")
    assert load_generator(bare).settings == ModelSettings()
    released = save_released_generator(generator, tmp_path / "a.pt")
    assert load_generator(released).settings == ModelSettings()
    generator.settings = KNOWN
    assert load_generator(save_generator(generator, bare)).settings == KNOWN
    assert load_generator(save_released_generator(generator, released)).settings == KNOWN
    content = lightning_checkpoint(generator, "generator", "model.")
    content["bigr"]["settings"] = KNOWN.to_json()
    torch.save(content, tmp_path / "c.ckpt")
    assert load_generator(tmp_path / "c.ckpt").settings == KNOWN


def test_class_names_of_earlier_versions(tmp_path: Path) -> None:
    """They were stored on their own, and may be wrong."""
    content = lightning_checkpoint(tiny_generator(), "generator", "model.")
    for text, message in (
        ('["a", "b", "c"]', None),
        ('["a", "b"]', "has 2 class names for a generator of 3 classes"),
        ('["a", 1, "c"]', r"settings of the generator in .*c\.ckpt are not valid: .*class_names"),
        ('["a", ', r"settings of the generator in .*c\.ckpt are not valid"),
        (3, r"settings of the generator in .*c\.ckpt are not valid"),
    ):
        content["bigr"]["classes"] = text
        torch.save(content, tmp_path / "c.ckpt")
        if message is None:
            names = load_generator(tmp_path / "c.ckpt").settings.class_names
            assert names == ("a", "b", "c")
            continue
        with pytest.raises(CheckpointError, match=message):
            load_generator(tmp_path / "c.ckpt")


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
        "truncated zip": (write("cut.pt", released.read_bytes()[:5000]), "damaged or truncated"),
        "truncated own": (
            write("cut.safetensors", good.read_bytes()[:5000]),
            "damaged or truncated",
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
    with pytest.raises(CheckpointError, match="the number of attention heads"):
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
@pytest.mark.parametrize("name", ["transformer.mask_token", "transcoder.denoiser.output.bias"])
def test_weights_must_be_finite(tmp_path: Path, name: str, value: float) -> None:
    """Also as float32, in which 1e300 is infinite."""
    generator = tiny_generator().double()
    generator.state_dict()[name].view(-1)[-1] = value
    path = save_generator(generator, tmp_path / "g.safetensors")
    with pytest.raises(CheckpointError, match=rf"The tensor {name} in .*g\.safetensors .* NaN or"):
        load_generator(path)


def test_weights_of_the_other_networks_must_be_finite(tmp_path: Path) -> None:
    autoencoder = tiny_autoencoder()
    discriminator = PatchDiscriminator(DiscriminatorConfig(base_channels=4, num_layers=2)).eval()
    with torch.no_grad():
        discriminator.state_dict()["layers.0.bias"][0] = float("nan")
        path = save_autoencoder(autoencoder, tmp_path / "a.th", discriminator=discriminator)
        load_autoencoder(path)
        with pytest.raises(CheckpointError, match=r"The tensor layers\.0\.bias in .*a\.th"):
            load_discriminator(path)
        autoencoder.quantizer.embedding.weight[2, 3] = float("inf")
    with pytest.raises(CheckpointError, match=r"The tensor quantizer\.embedding\.weight in"):
        load_autoencoder(save_autoencoder(autoencoder, tmp_path / "b.th"))


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int64, torch.uint8, torch.complex64, torch.float8_e4m3fn]
)
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_must_be_floating_point_numbers(
    tmp_path: Path, dtype: torch.dtype, ending: str
) -> None:
    generator = tiny_generator()
    tensors = generator.state_dict()
    tensors["transformer.norm.weight"] = tensors["transformer.norm.weight"].to(dtype)
    path = tmp_path / f"g.{ending}"
    save_file(tensors, path) if ending == "safetensors" else torch.save({"ema": tensors}, path)
    with pytest.raises(CheckpointError, match=rf"transformer\.norm\.weight is {dtype}\)"):
        load_generator(path, config=generator.config)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_are_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    generator = tiny_generator().to(dtype)
    loaded = load_generator(save_generator(generator, tmp_path / "g.safetensors"))
    expected = generator.transformer.norm.weight.float()
    assert torch.equal(loaded.transformer.norm.weight, expected)


def test_a_discriminator_keeps_its_counters(tmp_path: Path) -> None:
    """BatchNorm counts batches in an int64; another type is refused."""
    discriminator = PatchDiscriminator(DiscriminatorConfig(base_channels=4, num_layers=2)).eval()
    state = discriminator.state_dict()
    name = next(name for name in state if name.endswith("num_batches_tracked"))
    state[name].fill_(7)
    path = tmp_path / "a.th"
    save_released_autoencoder(tiny_autoencoder(), path, discriminator=discriminator)
    loaded = load_discriminator(path)
    assert loaded is not None
    assert loaded.state_dict()[name] == 7
    content = torch.load(path)
    counters = [key for key in content if key.endswith("num_batches_tracked")]
    torch.save({**content, counters[0]: torch.tensor(7.0)}, path)
    with pytest.raises(CheckpointError, match=r"num_batches_tracked is torch\.float32"):
        load_discriminator(path)


def with_configuration(path: Path, model: Any, **changes: Any) -> Path:
    """Save a model whose file says something else about its sizes; there is no checksum."""
    kind = "generator" if hasattr(model, "transformer") else "autoencoder"
    config = {**dataclasses.asdict(model.config), **changes}
    metadata = {"format": "bigr", "version": "1", "kind": kind, "config": json.dumps(config)}
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 10**9}, r"it has 1000000002 blocks, but there are only"),
        ({"denoiser_blocks": 10**9}, r"it has 1000000002 blocks, but there are only"),
        ({"num_layers": 10}, r"missing \(transformer\.layers\.2\."),
        (
            {"grid_size": 10**5},
            r"is \(1, 16, 32\) instead of \(1, 10000000000, 32\)",
        ),
        ({"dim": 10**9, "num_heads": 10}, r"position_table is \(1, 16, 32\) instead of"),
        (
            {"denoiser_dim": 10**6},
            r"time_embedding\.0\.weight is \(24, 256\) instead of \(1000000, 256\)",
        ),
        ({"denoiser_dim": 10**15}, "it cannot be built"),
        ({"code_dim": 10**30}, "it cannot be built"),
        ({"num_classes": 10**12}, r"class_embedding\.weight is \(4, 32\) instead of"),
        ({"feed_forward_multiple": 10**12}, r"of another shape"),
        ({"num_diffusion_steps": 10**12}, r"num_diffusion_steps must be an integer between"),
        ({"num_layers": "3"}, r"BiGRConfig\.num_layers must be a positive integer"),
        ({"num_layers": None}, r"BiGRConfig\.num_layers must be a positive integer"),
        ({"depth": 3}, r"depth"),
        ({"noise_schedule": {"class": 3}}, r"noise_schedule"),
        ({"noise_schedule": {"class": "my_lab.noise.Cosine"}}, r"import my_lab\.noise first\.$"),
        ({"noise_schedule": []}, r"noise_schedule"),
        ({"dropout": float("nan")}, r"dropout"),
    ],
)
def test_sizes_that_do_not_fit_the_file(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Nothing of these sizes is built, which would take hours or all memory."""
    path = with_configuration(tmp_path / "crafted.safetensors", tiny_generator(), **changes)
    with pytest.raises(CheckpointError, match=rf"crafted\.safetensors.*{message}") as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"res_blocks": 10**9},
        {"channel_multipliers": [1] * 100_000},
        {"channel_multipliers": []},
        {"code_dim": 10**12},
        {"base_channels": 32 * 10**15},
        {"image_size": "8"},
    ],
)
def test_sizes_of_an_autoencoder_that_do_not_fit(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = with_configuration(tmp_path / "crafted.safetensors", tiny_autoencoder(), **changes)
    with pytest.raises(CheckpointError, match=r"crafted\.safetensors") as caught:
        load_autoencoder(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_names_of_a_discriminator_that_ask_for_a_billion_layers(tmp_path: Path) -> None:
    path = save_released_autoencoder(tiny_autoencoder(), tmp_path / "a.th")
    weight = torch.ones(4, 3, 4, 4)
    content = {"disc.main.0.weight": weight, "disc.main.3000000000.weight": weight}
    torch.save({**torch.load(path), **content}, path)
    with pytest.raises(CheckpointError, match="it has 999999999 blocks, but there are only 2 tens"):
        load_discriminator(path)
    torch.save({**torch.load(path), "disc.main.x.weight": weight}, path)
    with pytest.raises(CheckpointError, match="cannot be inferred from its tensors"):
        load_discriminator(path)
