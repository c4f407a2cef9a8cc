"""The commands that are proposed at the end of a command can be run."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from bigr.checkpoints.hub import PACKAGED
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.cli.configuration import config_dir, register_resolvers
from bigr.cli.entry import quote_numbers
from bigr.cli.models import provisional, with_models
from bigr.cli.next_steps import (
    after_autoencoder,
    after_evaluation,
    after_generator,
    after_sampling,
    after_tokenizing,
)
from bigr.cli.validation import validate
from bigr.data.codes_writer import StoreWriter
from tests.codes_stores import SETTINGS, fill
from tests.models import tiny_autoencoder, tiny_generator
from tests.pictures import noise

MODULES = "bigr.training.data.image_data."


@pytest.fixture(autouse=True)
def _no_configuration() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder, with a space in its name, that contains models, codes and a picture."""
    folder = tmp_path / "my runs"
    (folder / "photos").mkdir(parents=True)
    save_autoencoder(tiny_autoencoder(), folder / "autoencoder.safetensors")
    save_generator(tiny_generator(), folder / "generator.safetensors")
    writer = StoreWriter(folder / "codes", SETTINGS)
    fill(writer)
    writer.finish()
    return folder


def composed(command: str) -> tuple[str, DictConfig]:
    """The name and the validated configuration of a command."""
    python, flag, module, *words = shlex.split(command)
    assert (python, flag) == ("python", "-m")
    name = module.removeprefix("bigr.")
    words = [re.sub(r"(guidance_scale=[\d.]+),.*", r"\1", word) for word in words if word != "-m"]
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        full = compose(name, quote_numbers([*words, "paths.output=out"]), return_hydra_config=True)
    HydraConfig.instance().set_config(full)
    GlobalHydra.instance().clear()
    config = full.copy()
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    validate(provisional(config))
    return name, with_models(config)


@pytest.mark.parametrize(
    ("experiment", "module", "successor"),
    [
        ("digits_autoencoder", "DigitsDataModule", "digits_generator"),
        ("digits_gan", "DigitsDataModule", "digits_generator"),
        ("crops_autoencoder", "ImageNetDataModule", "crops_generator"),
    ],
)
def test_a_generator_of_the_same_data(
    files: Path, experiment: str, module: str, successor: str
) -> None:
    data = {"_target_": MODULES + module}
    if module == "ImageNetDataModule":
        data["root"] = str(files / "photos")
    command = after_autoencoder(files, experiment, data)
    assert f"experiment={successor}" in command
    name, config = composed(command)
    assert name == "train"
    assert config.task.autoencoder == str(files)
    assert config.data.get("root") == data.get("root")
    assert (config.model.code_dim, config.model.grid_size) == (6, 4)  # those of this B-AE


@pytest.mark.parametrize("experiment", [None, "bae_d24_256", "photographs"])
def test_codes_then_a_generator(files: Path, experiment: str | None) -> None:
    data = {"_target_": MODULES + "ImageNetDataModule", "root": str(files / "photos")}
    name, config = composed(after_autoencoder(files, experiment, data))
    assert name == "tokenize"
    assert config.output == str(files / "codes")
    assert config.data.root == str(files / "photos")
    name, config = composed(after_tokenizing(StoreWriter(files / "codes", SETTINGS)))
    assert (name, config.model.num_layers, config.model.num_classes) == ("train", 6, 5)
    large = StoreWriter(files / "codes", dataclasses.replace(SETTINGS, grid_size=16))
    _, config = composed(after_tokenizing(large))
    assert config.model.num_layers == 24


def test_paths_below_the_working_folder_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    data = {"_target_": MODULES + "DigitsDataModule"}
    for output, shown in (("/tmp/runs/a", "runs/a"), ("/home/a", "/home/a")):
        command = after_autoencoder(Path(output), "digits_autoencoder", data)
        assert command.endswith(f" task.autoencoder={shown}")


def test_samples_and_scores_of_a_generator(files: Path) -> None:
    digits = {"_target_": MODULES + "DigitsDataModule"}
    photos = {"_target_": MODULES + "ImageNetDataModule", "root": str(files), "image_size": 32}
    for data, num_classes, expected in (
        (digits, 10, "digits"),
        (photos, 3, "own"),
        (photos, 1000, "inception"),
    ):
        sample, evaluate = after_generator(files, str(files), num_classes, data)
        name, config = composed(sample)
        assert name == "sample"
        assert list(config.application.classes) == list(range(min(num_classes, 8)))
        name, config = composed(evaluate)
        assert (name, config.evaluation.network) == ("evaluate", expected)
        assert config.generator == str(files)
    codes = {"_target_": "bigr.training.data.codes_data.CodesDataModule", "root": "codes"}
    (command,) = after_generator(Path("run"), None, 3, codes)
    words = ["generator=run", "autoencoder=…", "application.classes=[0,1,2]"]
    assert shlex.split(command) == ["python", "-m", "bigr.sample", *words]
    installed = str(PACKAGED / "digits" / "autoencoder.safetensors")
    (command,) = after_generator(Path("run"), installed, 3, codes)
    assert "autoencoder=digits" in shlex.split(command)


@pytest.mark.parametrize("models", ["pretrained", "files"])
def test_an_edit_then_the_app(files: Path, models: str) -> None:
    given: dict[str, Any] = {
        "pretrained": None,
        "application": {"_target_": "bigr.BiGRPipeline.stream"},
    }
    given |= {n: str(files / f"{n}.safetensors") for n in ("generator", "autoencoder")}
    if models == "pretrained":
        given["pretrained"] = str(files)
    config = OmegaConf.create(given)
    noise(20, 12).save(files / "1.png")
    name, found = composed(after_sampling(config, [files / "1.png"]))
    assert name == "sample"
    assert found.application._target_ == "bigr.BiGRPipeline.inpaint"
    assert found.application.image == str(files / "1.png")
    assert found.application.mask == [[10, 0, 20, 12]]
    config.application._target_ = "bigr.BiGRPipeline.inpaint"
    name, found = composed(after_sampling(config, []))
    assert name == "demo"
    assert found.generator == str(files / "generator.safetensors")


def test_a_sweep_after_an_evaluation(files: Path) -> None:
    models = [f"{key}={files / key}.safetensors" for key in ("generator", "autoencoder")]
    words = ["evaluation=digits_fidelity", *(word.replace(" ", "\\ ") for word in models)]
    config = OmegaConf.create({"generator": "g"})

    def proposed(
        *more: str,
        mode: RunMode = RunMode.RUN,
        name: str = "evaluate",
        evaluation: str = "digits_fidelity",
    ) -> str | None:
        choices = {"evaluation": evaluation}
        hydra_node = {
            **{"mode": mode, "job": {"name": name}, "runtime": {"choices": choices}},
            "overrides": {"task": [*words, *more], "hydra": ["hydra.searchpath=[pkg://bigr]"]},
        }
        HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra_node})  # type: ignore[assignment]
        return after_evaluation(config)

    command = proposed()
    assert command is not None
    assert "-m" in shlex.split(command)[3:]
    assert "hydra.searchpath=[pkg://bigr]" in shlex.split(command)
    name, found = composed(command.replace("hydra.searchpath=", "+unused="))
    assert (name, found.sampler.guidance_scale, found.generator) == (
        "evaluate",
        1,
        f"{files}/generator.safetensors",
    )
    assert proposed("sampler.guidance_scale=2") is None
    assert proposed(mode=RunMode.MULTIRUN) is None
    assert proposed(name="probe") is None
    assert proposed(evaluation="reconstruction") is None  # it does not sample
    config.evaluation = {"application": "inpaint"}
    assert proposed(evaluation="edits") is None  # guidance has no effect without a class
    config.evaluation = {"application": "edit"}
    assert proposed(evaluation="edits") is not None
    config.generator = None
    assert proposed() is None
