"""The source that completes nodes: what is completed, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigLoadError
from omegaconf import OmegaConf

from bigr.cli.configuration import register_resolvers
from bigr.cli.signature_source import SignatureSource, completed
from bigr.presets import config_dir

HEAD = "bigr.evaluation.linear_heads.HeadSettings"


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    register_resolvers()
    yield
    GlobalHydra.instance().clear()


def compose(name: str, *overrides: str) -> Any:
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra.compose(name, list(overrides))


def test_parameters_that_no_file_states_can_be_overridden() -> None:
    text = (config_dir() / "callbacks" / "base.yaml").read_text()
    assert "retry_after_minutes" not in text
    config = compose("train", "callbacks.checkpoint.retry_after_minutes=9")
    assert config.callbacks.checkpoint.retry_after_minutes == 9
    assert config.callbacks.checkpoint.requeue is True


def test_misspelled_parameters_are_still_refused() -> None:
    with pytest.raises(ConfigCompositionException, match="retry_after_minute'"):
        compose("train", "callbacks.checkpoint.retry_after_minute=9")


def test_values_of_yaml_take_precedence() -> None:
    node = {"_target_": HEAD, "epochs": 3, "nested": [{"_target_": HEAD, "momentum": 0.5}]}
    found = completed(node, {"bigr"})
    assert (found["epochs"], found["batch_size"]) == (3, 16384)
    assert (found["nested"][0]["momentum"], found["nested"][0]["epochs"]) == (0.5, 90)
    assert list(node) == ["_target_", "epochs", "nested"]


def test_other_packages_are_left_alone() -> None:
    node = {"_target_": "torch.optim.SGD", "lr": 0.1}
    assert completed(node, {"bigr"}) == node
    assert compose("train").trainer.keys().isdisjoint({"fast_dev_run", "barebones"})


def test_an_option_that_inherits_keeps_the_values_of_its_base() -> None:
    xl = compose("train", "sampler=paper_xl").sampler
    assert (xl.num_iterations, xl.num_denoise_steps, xl.order) == (25, 100, "confidence")


def folder(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = tmp_path / "lab" / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "lab" / "conf"


def test_experiments_are_not_completed(tmp_path: Path) -> None:
    """An experiment that names the target again must not bring the defaults back."""
    text = f"# @package _global_\nprobe:\n  head:\n    _target_: {HEAD}\n    epochs: 3\n"
    conf = folder(tmp_path, {"experiment/mine.yaml": text, "head/mine.yaml": text})
    source = SignatureSource("test", f"signatures://{conf}")
    stated = source.load_config("experiment/mine").config
    assert OmegaConf.to_container(stated) == {"probe": {"head": {"_target_": HEAD, "epochs": 3}}}
    assert source.load_config("head/mine").config.probe.head.momentum == 0.9
    assert source.load_config("head/mine").header == {"package": "_global_"}


def test_a_folder_in_a_package_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Used with the search path, targets of that package and of ours are completed."""
    name = "lab"
    conf = folder(
        tmp_path,
        {
            "../__init__.py": "",
            "../data.py": "class Flowers:\n    def __init__(self, root, size=32): pass\n",
            "data/flowers.yaml": f"_target_: {name}.data.Flowers\nroot: ???\nnum_classes: 7\n",
            "sampler/lab.yaml": "defaults: [paper_l]\norder: raster\n",
        },
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    search = f"hydra.searchpath=[signatures://{conf}]"
    config = compose("train", search, "data=flowers", "data.size=64", "sampler=lab")
    assert (config.data.size, config.model.num_classes) == (64, 7)
    assert (config.sampler.order, config.sampler.num_iterations) == ("raster", 20)


@pytest.mark.parametrize("name", ["sample", "evaluate", "tokenize", "probe", "demo"])
@pytest.mark.parametrize("more", [[], ["hydra.searchpath=[pkg://bigr]"]])
def test_keys_of_the_primary_configuration_are_no_groups(name: str, more: list[str]) -> None:
    """``autoencoder`` is a checkpoint everywhere but in ``train``, before and after that."""
    assert compose("train", "autoencoder=d32").autoencoder.code_dim == 32
    assert compose(name, "autoencoder=a.th", *more).autoencoder == "a.th"
    assert compose("train", "autoencoder=d32", *more).autoencoder.code_dim == 32


def test_listing(tmp_path: Path) -> None:
    conf = folder(tmp_path, {"train.yaml": "a: 1", "model/l.yaml": "", "model/xl.yaml": "b: 2"})
    source = SignatureSource("test", f"signatures://{conf}")
    assert source.available()
    assert source.list("", ObjectType.GROUP) == ["model"]
    assert source.list("", ObjectType.CONFIG) == ["train"]
    assert source.list("model", None) == ["l", "xl"]
    assert source.exists("model/l")
    assert not source.exists("model/m")
    assert source.load_config("model/l").config == {}
    with pytest.raises(ConfigLoadError, match=r"model/m\.yaml: there is no such file"):
        source.load_config("model/m")


def test_other_hydra_programs_are_left_alone(tmp_path: Path) -> None:
    """A program with its own folder of files reads them as they are."""
    (tmp_path / "main.yaml").write_text(f"head:\n  _target_: {HEAD}\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert list(hydra.compose("main").head) == ["_target_"]
