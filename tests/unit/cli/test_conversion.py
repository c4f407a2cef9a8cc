"""Converting a pair of models, by folder or name; the settings survive every format."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from bigr import BiGRPipeline, SamplerConfig, load_generator
from bigr.checkpoints.hub import OWN, OWN_RELEASED, PACKAGED
from bigr.checkpoints.load import load_discriminator
from bigr.checkpoints.native import save_autoencoder
from bigr.cli.conversion import ConversionOptions, convert
from bigr.inference.model_defaults import default_sampler
from bigr.models.discriminator import DiscriminatorConfig, PatchDiscriminator
from tests.models import tiny_autoencoder, tiny_generator

DEFAULTS = ConversionOptions()
RELEASED = ConversionOptions(released=True)
OWN_SETTINGS = SamplerConfig(
    num_iterations=3, num_denoise_steps=4, order="random", mask_schedule="linear"
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a pair that remembers its sampler and the names of its classes."""
    pipeline = BiGRPipeline(
        tiny_generator(), tiny_autoencoder(), class_names=["ant", "bee", "größer"],
        sampler=OWN_SETTINGS, device="cpu",
    )  # fmt: skip
    return pipeline.save_pretrained(tmp_path / "saved")


def drawing(*where: Path) -> tuple[bytes, Any]:
    """What a pair draws by its own settings, and these settings."""
    load = BiGRPipeline.from_pretrained if len(where) == 1 else BiGRPipeline.from_files
    pipeline = load(*where, device="cpu")  # type: ignore[operator]
    assert pipeline.sampler_config == OWN_SETTINGS
    return pipeline.generate("GRÖSSER", seed=4)[0].tobytes(), pipeline.models.generator.settings


def checksum(path: Path) -> str:
    """The checksum of the weights, the configuration and the settings in a file."""
    with safe_open(str(path), "pt") as file:
        return str(file.metadata()["bigr.sha256"])


def test_a_pair_in_every_layout(saved: Path, tmp_path: Path) -> None:
    """There and back; the picture and the settings stay the same."""
    expected = drawing(saved)
    assert expected[1].class_names == ("ant", "bee", "größer")
    line = convert(str(saved), tmp_path / "released", RELEASED)
    assert line.startswith(f"{tmp_path / 'released'}: generator.pt and autoencoder.th, ")
    assert line.endswith(f"next: python -m bigr.sample pretrained={tmp_path / 'released'}")
    assert drawing(tmp_path / "released") == expected
    assert drawing(*(tmp_path / "released" / name for name in OWN_RELEASED)) == expected
    convert(f"pretrained={tmp_path / 'released'}", tmp_path / "own", DEFAULTS)
    assert drawing(tmp_path / "own") == expected
    for name in OWN:
        assert checksum(tmp_path / "own" / name) == checksum(saved / name)
    for name in ("classes.txt", "README.md"):
        assert (tmp_path / "own" / name).read_bytes() == (saved / name).read_bytes()


def test_single_files_of_a_pair(saved: Path, tmp_path: Path) -> None:
    """A checkpoint of a run, its export, and both layouts one after the other."""
    expected = drawing(saved)
    generator = load_generator(saved / OWN[0])
    about = {
        "kind": "generator", "config": dataclasses.asdict(generator.config),
        "settings": generator.settings.to_json(),
    }  # fmt: skip
    state = {f"model.{name}": tensor for name, tensor in generator.state_dict().items()}
    torch.save({"state_dict": state, "bigr": about}, tmp_path / "last.ckpt")
    steps = ["last.ckpt", "one.safetensors", "two.pt", "three.safetensors"]
    for source, target in itertools.pairwise(steps):
        convert(str(tmp_path / source), tmp_path / target, DEFAULTS)
    for name in steps:
        assert drawing(tmp_path / name, saved / OWN[1]) == expected
    assert checksum(tmp_path / steps[1]) == checksum(tmp_path / steps[3])


def test_an_installed_model_by_name(tmp_path: Path) -> None:
    convert("digits", tmp_path / "copy", DEFAULTS)
    ours, theirs = (load_generator(folder) for folder in (PACKAGED / "digits", tmp_path / "copy"))
    assert default_sampler(ours.config, ours.settings) == default_sampler(
        theirs.config, theirs.settings
    )
    assert ours.settings.class_names == theirs.settings.class_names
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_single_file_keeps_its_discriminator(tmp_path: Path) -> None:
    discriminator = PatchDiscriminator(DiscriminatorConfig())
    own = save_autoencoder(
        tiny_autoencoder(), tmp_path / "a.safetensors", discriminator=discriminator
    )
    assert "B-AE with its discriminator" in convert(str(own), tmp_path / "a.th", DEFAULTS)
    assert load_discriminator(tmp_path / "a.th") is not None


@pytest.mark.parametrize(
    ("source", "target", "options", "message"),
    [
        ("saved", "new.pt", DEFAULTS, r"stands for a generator and its B-AE: give a folder inste"),
        ("saved", "saved", DEFAULTS, r"generator\.safetensors exists.*--force"),
        ("savde", "new", DEFAULTS, r"savde is neither a folder.*Did you mean saved\?"),
        ("pretrained=digitz", "new", DEFAULTS, r"digitz is neither.*Did you mean digits\?"),
        ("saved", "new", ConversionOptions(num_heads=2), "--num-heads is for a single generator"),
        ("gone.ckpt", "new", DEFAULTS, r"new must end in \.safetensors"),
    ],
)
def test_mistakes(
    saved: Path, source: str, target: str, options: ConversionOptions, message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(saved.parent)
    before = {path: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(ValueError, match=message):
        convert(source, Path(target), options)
    assert {path: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_replacing_a_pair(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "other")
    (tmp_path / "other" / OWN[0]).write_bytes(b"something else")
    convert(str(saved), tmp_path / "other", ConversionOptions(force=True))
    assert drawing(tmp_path / "other") == drawing(saved)
