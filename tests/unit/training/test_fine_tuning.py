"""Generators that start from trained ones: their weights, and what is trained."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from bigr import BiGRConfig, load_autoencoder, load_generator
from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.hub import PACKAGED
from bigr.checkpoints.identity import weights_sha256
from bigr.checkpoints.lora import LoRAConfig
from bigr.checkpoints.native import save_generator
from bigr.models.model_settings import ModelSettings
from bigr.training.generator_module import GeneratorModule
from bigr.training.initialization import CLASS_TABLE, CODE_LAYERS
from bigr.training.optimizers import adamw
from tests.models import TINY, tiny_generator
from tests.tiny_training import PairsDataModule, tiny_trainer


def build(path: Path | str, **settings: Any) -> GeneratorModule:
    sizes = {**TINY, **settings.pop("sizes", {})}
    return GeneratorModule(
        BiGRConfig(**sizes), functools.partial(adamw, lr=1e-2), init_from=str(path), **settings
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = tiny_generator()
    model.settings = ModelSettings(class_names=("ant", "bee", "cat"), autoencoder_sha256="a" * 64)
    return save_generator(model, tmp_path / "generator.safetensors")


def test_rows_follow_the_names_of_the_data(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    data = PairsDataModule("codes")
    data.classes = ["cat", "dog", "ant"]
    module = build(saved, class_rows="auto")
    module.check(data)
    expected = tiny_generator().state_dict()[CLASS_TABLE][[2, 3, 0, 3]]
    assert torch.equal(module.model.state_dict()[CLASS_TABLE], expected)
    assert "1 of 3 classes; the others and the null class copied" in caplog.text
    assert module.model.settings.autoencoder_sha256 == "a" * 64


def test_another_autoencoder_gets_new_code_layers(saved: Path) -> None:
    data = PairsDataModule("codes")
    data.tokenizer_sha256, data.image_size = "b" * 64, 8
    for resets, is_new in (("auto", True), (False, False)):
        module = build(saved, reset_code_layers=resets)
        module.check(data)
        origins = module.fine_tuning.origins
        changed = {name for name, origin in origins.items() if origin.how != "copied"}
        assert {name.startswith(CODE_LAYERS) for name in changed} == ({True} if is_new else set())
        assert len(changed) == (6 if is_new else 0)


def test_frozen_parameters_keep_their_values(saved: Path) -> None:
    module = build(saved, freeze=("transformer.layers.0", CLASS_TABLE), sizes={"dropout": 0.0})
    tiny_trainer(2).fit(module, datamodule=PairsDataModule("codes"))
    theirs = tiny_generator().state_dict()
    for name, value in module.model.named_parameters():
        is_frozen = name.startswith("transformer.layers.0.") or name == CLASS_TABLE
        assert torch.equal(value, theirs[name]) == is_frozen, name


def test_new_parameters_are_trained_unless_they_are_frozen(saved: Path) -> None:
    data = PairsDataModule("codes")
    data.classes = ["x", "y", "z"]
    module = build(saved, train=("transcoder.denoiser.output",))
    module.check(data)
    trained = set(module.trained_names())
    output = "model.transcoder.denoiser.output"
    assert trained == {f"model.{CLASS_TABLE}", f"{output}.weight", f"{output}.bias"}
    module = build(saved, train=("transcoder.denoiser.output",), freeze=(CLASS_TABLE,))
    module.check(data)
    assert set(module.trained_names()) == {f"{output}.weight", f"{output}.bias"}


def test_sizes_that_have_to_agree(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"dim=32, .*has dim=64.*choose model=pretrained"):
        build(saved, sizes={"dim": 64, "denoiser_blocks": 3})
    with pytest.raises(CheckpointError, match=r"task\.init_from=nowhere: nowhere is neither a fol"):
        build("nowhere")


def test_the_packaged_digits() -> None:
    """A name is enough, for the generator and for the B-AE."""
    config = load_generator("digits").config
    module = GeneratorModule(config, functools.partial(adamw, lr=1e-3), init_from="digits")
    pretrained = module.fine_tuning.pretrained
    assert pretrained is not None
    autoencoder = load_autoencoder("digits")
    assert pretrained.generator.settings.autoencoder_sha256 == weights_sha256(autoencoder)
    assert weights_sha256(load_generator(PACKAGED / "digits")) == weights_sha256(
        pretrained.generator
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_rows": {0: 1}}, r"task\.class_rows=\{0: 1\} needs a trained generator"),
        ({"reset_code_layers": True}, r"task\.reset_code_layers=true needs a trained generator"),
        (
            {"lora": LoRAConfig(rank=2)},
            r"task\.lora\.rank=2 needs a trained generator: set task",
        ),
    ],
)
def test_what_needs_a_trained_generator(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-2), **settings)
