"""``pretrained=…``, and what a command takes from the models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from bigr import BiGRPipeline, SamplerConfig
from bigr.checkpoints.hub import PACKAGED
from bigr.cli.configuration import ConfigError
from bigr.cli.models import provisional, with_models
from tests.models import tiny_autoencoder, tiny_generator

OWN = SamplerConfig(guidance_scale=1.5, num_iterations=3, order="random")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipeline = BiGRPipeline(tiny_generator(), tiny_autoencoder(), sampler=OWN, device="cpu")
    return pipeline.save_pretrained(tmp_path_factory.mktemp("saved"))


def config(**more: Any) -> DictConfig:
    sampler = dict.fromkeys(SamplerConfig().to_dict())
    models = {"generator": "???", "autoencoder": "???", "pretrained": None}
    return OmegaConf.create(
        {**models, "sampler": sampler, "resolution": {"image_size": None}} | more
    )


def test_values_of_the_model(saved: Path) -> None:
    """Values that are given replace those of the model."""
    given = config(pretrained=str(saved))
    given.sampler.guidance_scale = 4.0
    found = with_models(given)
    assert Path(found.generator) == saved / "generator.safetensors"
    assert Path(found.autoencoder) == saved / "autoencoder.safetensors"
    assert found.sampler.guidance_scale == 4.0
    assert (found.sampler.num_iterations, found.sampler.order) == (3, "random")
    assert found.resolution.image_size == 8


def test_two_files(saved: Path) -> None:
    files = {kind: str(saved / f"{kind}.safetensors") for kind in ("generator", "autoencoder")}
    found = with_models(config(**files))
    assert found.sampler.order == "random"
    assert found.resolution.image_size == 8
    with pytest.raises(ConfigError, match="leave out generator and autoencoder"):
        with_models(config(pretrained=str(saved), **files))


@pytest.mark.parametrize("step", [provisional, with_models])
def test_an_installed_model_by_its_name(
    saved: Path, step: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A generator of one's own can be used with an installed B-AE."""
    monkeypatch.chdir(tmp_path)
    given = config(generator=str(saved / "generator.safetensors"), autoencoder="digits")
    found = step(given)
    assert found.generator == given.generator
    assert Path(found.autoencoder).samefile(PACKAGED / "digits" / "autoencoder.safetensors")
    assert given.autoencoder == "digits"
    # A file of this name comes first.
    (tmp_path / "digits").write_text("")
    assert provisional(given).autoencoder == "digits"


def test_only_the_autoencoder(saved: Path) -> None:
    """As for bigr.tokenize, which has no key for a generator."""
    given = OmegaConf.create({"pretrained": str(saved), "autoencoder": "???"})
    found = with_models(given)
    assert set(found) == {"pretrained", "autoencoder"}
    assert Path(found.autoencoder) == saved / "autoencoder.safetensors"


def test_nodes_of_settings_are_no_files() -> None:
    """In bigr.train, autoencoder is a group of settings."""
    given = OmegaConf.create({"autoencoder": {"code_dim": 24}, "pretrained": None})
    assert with_models(given) == given


def test_before_the_models_are_known() -> None:
    given = config(pretrained="nowhere")
    OmegaConf.set_struct(given, True)  # as Hydra does
    found = provisional(given)
    assert found.generator == "."  # any path that exists
    assert dict(found.sampler) == {}
    assert found.resolution.image_size == 256
    with pytest.raises(ConfigError, match="pretrained=nowhere: nowhere is neither a folder"):
        with_models(config(pretrained="nowhere"))
