"""Weights by name, from a hub on loopback that serves the released layout."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.errors
import pytest

from bigr import BiGRPipeline, SamplerConfig, load_generator
from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.hub import (
    AUTOENCODERS,
    GENERATORS,
    find_model,
    find_pair,
    packaged_models,
    released_files,
)
from bigr.checkpoints.identity import weights_sha256
from tests.hub_server import Hub, released_hub, run_with
from tests.models import tiny_autoencoder, tiny_generator
from tests.processes import python

LOAD = """
import sys
from bigr import BiGRPipeline
from bigr.checkpoints.errors import CheckpointError
try:
    pipeline = BiGRPipeline.from_pretrained("haoosz/BiGR", model="l", device="cpu")
except CheckpointError as error:
    sys.exit(f"refused: {error}")
print(pipeline.generate(0, num_iterations=2, num_denoise_steps=2)[0].tobytes().hex())
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with released_hub(tmp_path / "hub") as server:
        yield server


def load(hub: Hub, folder: Path, code: str = LOAD, **variables: str) -> tuple[int, str]:
    return run_with(hub, folder, code, **variables)


def test_from_the_hub_and_offline(hub: Hub, tmp_path: Path) -> None:
    """Downloaded, then from the cache without any request; the same as a local copy gives."""
    code, first = load(hub, tmp_path)
    assert code == 0, first
    before = hub.requests
    code, again = load(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert (code, again) == (0, first)
    assert hub.requests == before
    result = python("-c", LOAD.replace("haoosz/BiGR", str(hub.folder)), cwd=tmp_path)
    assert result.stdout == first


def test_own_repository_with_class_names(hub: Hub, tmp_path: Path) -> None:
    BiGRPipeline(
        tiny_generator(), tiny_autoencoder(), class_names=["ant", "bee", "cat"], device="cpu"
    ).save_pretrained(hub.folder)
    code = LOAD.replace("generate(0,", 'generate("Bee",').replace("haoosz/BiGR", "me/mine")
    status, named = load(hub, tmp_path, code)
    assert status == 0, named
    (hub.folder / "classes.txt").unlink()
    code = code.replace('"Bee"', "1")
    assert load(hub, tmp_path / "again", code) == (0, named)
    assert load(hub, tmp_path / "again", code, HF_HUB_OFFLINE="1") == (0, named)


def test_settings_come_back_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    """Saved, served and loaded by name, a model draws by its own sampler what it drew before."""
    own = SamplerConfig(
        num_iterations=3, num_denoise_steps=4, order="random", mask_schedule="linear"
    )
    names = ["ant", "bee", "cat"]
    pipeline = BiGRPipeline(
        tiny_generator(), tiny_autoencoder(), class_names=names, sampler=own, device="cpu"
    )
    pipeline.save_pretrained(hub.folder)
    code = LOAD.replace("haoosz/BiGR", "me/mine").replace(
        "pipeline.generate(0, num_iterations=2, num_denoise_steps=2)",
        'pipeline.generate(["cat", None], seed=5)',
    )
    status, said = load(hub, tmp_path, code)
    assert status == 0, said
    assert said.strip() == pipeline.generate(["cat", None], seed=5)[0].tobytes().hex()
    settings = "p = pipeline; print(p.sampler_config, p.class_names, p.models.generator.settings)"
    status, said = load(hub, tmp_path, code.replace("print(", f"{settings}\nprint("))
    assert status == 0, said
    saved = load_generator(hub.folder / "generator.safetensors").settings
    assert said.splitlines()[0] == f"{own} {names} {saved}"
    assert saved.autoencoder_sha256 == weights_sha256(pipeline.models.autoencoder)


def test_damaged_download_is_refused(hub: Hub, tmp_path: Path) -> None:
    """The next attempt downloads the file again."""
    hub.damaged = True
    code, said = load(hub, tmp_path)
    assert code == 1
    assert "was damaged during the download" in said
    hub.damaged = False
    code, said = load(hub, tmp_path)
    assert code == 0, said


def test_nothing_cached_and_offline(hub: Hub, tmp_path: Path) -> None:
    code, said = load(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert code == 1
    assert "the hub cannot be reached" in said


def test_every_released_generator_has_its_autoencoder() -> None:
    for model, code, resolution in GENERATORS:
        _, autoencoder = released_files(model, code, resolution)
        assert autoencoder == AUTOENCODERS[code, resolution]
    with pytest.raises(CheckpointError, match="model=l code=d32 resolution=256 was not released"):
        released_files("l", "d32", 256)


def test_folders(tmp_path: Path) -> None:
    for name in (
        str(tmp_path / "nowhere"),
        "./nowhere",
        "a/b/c",
        f"{tmp_path.name}",
        "src/nowhere",
    ):
        with pytest.raises(CheckpointError, match="neither a folder, nor a hub repository"):
            find_pair(name)
    (tmp_path / "generators").mkdir()
    with pytest.raises(CheckpointError, match=r"Did you mean .*/generators\?"):
        find_pair(tmp_path / "generatos")
    (tmp_path / "generator").mkdir()
    (tmp_path / "generator" / "generator.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"lacks autoencoder/autoencoder\.safetensors"):
        find_pair(tmp_path)
    empty = tmp_path / "generators"
    with pytest.raises(CheckpointError, match=r"generators contains no generator: give a file"):
        find_model(empty, "generator")
    with pytest.raises(CheckpointError, match="the name is empty"):
        find_model("", "generator")
    assert find_model(tmp_path / "generator", "generator") == tmp_path / "generator"


def test_installed_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, after folders of the same name in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bigr.checkpoints.hub.PACKAGED", tmp_path / "installed")
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), device="cpu")
    folder = pipeline.save_pretrained(tmp_path / "installed" / "ants")
    assert packaged_models() == ["ants"]
    assert find_pair("ants").generator == folder / "generator.safetensors"
    with pytest.raises(CheckpointError, match=r"Did you mean ants\?"):
        find_pair("antz")
    other = pipeline.save_pretrained(tmp_path / "ants")
    assert find_pair("ants").generator.resolve() == other / "generator.safetensors"


def test_a_damaged_file_in_the_cache_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every use; it is deleted, so that the next attempt downloads it again."""
    blobs = {}
    for name in ("generator.safetensors", "autoencoder.safetensors"):
        content = name.encode() * 100
        blobs[name] = tmp_path / hashlib.sha256(content).hexdigest()
        blobs[name].write_bytes(content)
        (tmp_path / name).symlink_to(blobs[name])

    def cached(repo: str, file: str, **_: object) -> str:
        if file not in blobs:
            raise huggingface_hub.errors.EntryNotFoundError(file)
        return str(tmp_path / file)

    for name in ("hf_hub_download", "try_to_load_from_cache"):
        monkeypatch.setattr(huggingface_hub, name, cached)
    assert find_pair("me/mine").generator.name == "generator.safetensors"
    whole = blobs["generator.safetensors"].read_bytes()
    for place in random.Random(0).sample(range(8 * len(whole)), 50):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        blobs["generator.safetensors"].write_bytes(damaged)
        (tmp_path / "generator.safetensors").unlink(missing_ok=True)
        (tmp_path / "generator.safetensors").symlink_to(blobs["generator.safetensors"])
        with pytest.raises(CheckpointError, match=r"generator\.safetensors of me/mine was damaged"):
            find_pair("me/mine")
        assert not blobs["generator.safetensors"].exists()
