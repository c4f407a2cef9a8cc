"""Files of LoRA adapters: trained, written, read by peft, and added to the generator."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bigr import BiGRConfig, BiGRPipeline, convert, load_generator
from bigr.checkpoints.adapters import with_adapter
from bigr.checkpoints.errors import CheckpointError
from bigr.checkpoints.hub import find_model
from bigr.checkpoints.lora import LoRAConfig, is_adapter_name, merged, plain_name
from bigr.checkpoints.native import save_autoencoder, save_generator
from bigr.checkpoints.read import read_checkpoint
from bigr.models.model_settings import ModelSettings
from bigr.training.callbacks.ema import EMA
from bigr.training.callbacks.weight_export import ExportWeights
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.models import TINY, tiny_autoencoder, tiny_generator
from tests.tiny_training import PairsDataModule, tiny_trainer

STEPS = 4
CLASSES = "transformer.class_embedding.weight"


def module(base: Path, **settings: Any) -> GeneratorModule:
    torch.manual_seed(0)
    return GeneratorModule(
        BiGRConfig(**TINY),
        functools.partial(adamw, lr=1e-2, layer_decay=0.5),
        init_from=str(base),
        **{"lora": LoRAConfig(rank=2, alpha=3, dropout=0.1), "class_rows": {1: 0}, **settings},
    )


class Trained:
    """A run of a few steps, and the files that it wrote."""

    def __init__(self, folder: Path) -> None:
        self.base = tiny_generator()
        self.base.settings = ModelSettings(class_names=("ant", "bee", "cat"))
        self.base_file = save_generator(self.base, folder / "base.safetensors")
        self.run = folder / "run"
        self.module = module(self.base_file)
        self.data = PairsDataModule("codes")
        self.data.classes = ["x", "y", "z"]
        self.trainer = tiny_trainer(STEPS, EMA(decay=0.5), ExportWeights(str(self.run), merge=True))
        self.trainer.fit(self.module, datamodule=self.data)
        self.checkpoint = self.run / "checkpoints" / f"step_{STEPS:08d}.ckpt"
        self.trainer.save_checkpoint(self.checkpoint)
        self.weights = merged(self.module.model.state_dict(), 1.5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("lora"))


def test_only_the_adapter_and_the_new_classes_are_trained(trained: Trained) -> None:
    theirs = trained.base.state_dict()
    for full, parameter in trained.module.model.named_parameters():
        name = plain_name(full)
        assert parameter.requires_grad == (is_adapter_name(name) or name == CLASSES), name
        if not parameter.requires_grad:
            assert torch.equal(parameter, theirs[name]), name
    changed = trained.weights["transformer.layers.0.attention.qkv.weight"]
    assert not torch.equal(changed, theirs["transformer.layers.0.attention.qkv.weight"])
    assert not torch.equal(trained.weights[CLASSES], theirs[CLASSES][[3, 0, 3, 3]])


@pytest.mark.parametrize(
    "place", ["run/adapter", "run/generator.safetensors", "run/checkpoints", "convert", "argument"]
)
def test_every_file_gives_the_same_generator(trained: Trained, place: str, tmp_path: Path) -> None:
    folder, file, adapter = trained.run.parent, trained.run.parent / place, None
    if place == "run/checkpoints":
        file = trained.checkpoint
    elif place == "convert":
        file = tmp_path / "merged.safetensors"
        convert.main([str(folder / "run" / "adapter"), str(file)])
    elif place == "argument":
        file, adapter = trained.base_file, trained.run
    model = load_generator(file, adapter=adapter)
    assert model.settings.class_names == ("x", "y", "z")
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, trained.weights[name]), name


def test_peft_reads_the_adapter(trained: Trained) -> None:
    """The matrices in the files, applied by peft itself to the generator."""
    import peft  # takes seconds

    model = load_generator(trained.base_file)
    folder = str(trained.run / "adapter")
    config = peft.LoraConfig.from_pretrained(folder)
    config.inference_mode = False
    peft.inject_adapter_in_model(config, model)
    state = peft.load_peft_weights(folder, device="cpu")
    prefix = "base_model.model."
    peft.set_peft_model_state_dict(
        model, {n.removeprefix(prefix): t for n, t in state.items() if "lora_" in n}
    )
    with torch.no_grad():
        model.transformer.class_embedding.weight.copy_(state[prefix + CLASSES])
    codes = torch.randint(0, 2, (2, 16, 6)).float()
    arguments = (codes, torch.tensor([1, 3]), torch.ones(2, 16, dtype=torch.bool))
    ours = load_generator(trained.run / "adapter").condition(*arguments)
    assert (ours - trained.base.condition(*arguments)).abs().max() > 0.01
    torch.testing.assert_close(model.eval().condition(*arguments), ours, rtol=1e-4, atol=1e-4)


def test_a_resumed_run_is_the_same(trained: Trained, tmp_path: Path) -> None:
    """Half of the steps, then the other half from its checkpoint: bit for bit, average included."""
    file = tmp_path / "half.ckpt"
    for steps, resumed in ((STEPS // 2, None), (STEPS, str(file))):
        half, data = module(trained.base_file), PairsDataModule("codes")
        data.classes = ["x", "y", "z"]
        if resumed is not None:
            # A plain loader starts from its beginning, so it gets only the batches that are left.
            left: Any = list(data.train_dataloader())[STEPS // 2 :]
            loader = torch.utils.data.DataLoader(left, batch_size=None)
            data.train_dataloader = lambda loader=loader: loader  # type: ignore[method-assign]
        trainer = tiny_trainer(steps, EMA(decay=0.5), ExportWeights(str(tmp_path)))
        trainer.fit(half, datamodule=data, ckpt_path=resumed, weights_only=True)
        trainer.save_checkpoint(file)
    for name, weight in half.model.state_dict().items():
        assert torch.equal(weight, trained.module.model.state_dict()[name]), name
    ours, theirs = (torch.load(f, weights_only=True) for f in (file, trained.checkpoint))
    for name, weight in theirs["current_model_state"].items():
        assert torch.equal(ours["current_model_state"][name], weight), name


def test_in_the_pipeline(trained: Trained, tmp_path: Path) -> None:
    autoencoder = save_autoencoder(tiny_autoencoder(), tmp_path / "a.safetensors")
    settings: dict[str, Any] = {"num_iterations": 2, "num_denoise_steps": 2, "seed": 3}
    pictures = []
    for generator, adapter in ((trained.base_file, trained.run), (trained.run / "adapter", None)):
        pipeline = BiGRPipeline.from_files(generator, autoencoder, adapter=adapter, device="cpu")
        assert pipeline.class_names == ["x", "y", "z"]
        pictures.append(pipeline.generate("y", **settings)[0].tobytes())
    plain = BiGRPipeline.from_files(trained.base_file, autoencoder, device="cpu")
    assert pictures[0] == pictures[1] != plain.generate(1, **settings)[0].tobytes()


def test_samples_during_training_contain_the_adapter(trained: Trained) -> None:
    for name, weight in trained.module.sampled_model().state_dict().items():
        assert torch.equal(weight, trained.weights[name]), name


def test_a_run_that_is_not_finished_is_found(trained: Trained, tmp_path: Path) -> None:
    assert find_model(trained.run, "generator") == trained.run
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step_00000002.ckpt").touch()
    newest = tmp_path / "checkpoints" / "step_00000010.ckpt"
    newest.write_bytes(trained.checkpoint.read_bytes())
    assert find_model(tmp_path, "generator") == newest
    again = module(tmp_path, lora=LoRAConfig(), class_rows="auto")
    started_from = again.fine_tuning.pretrained
    assert started_from is not None
    name = "transformer.layers.0.attention.qkv.weight"
    assert torch.equal(started_from.generator.state_dict()[name], trained.weights[name])


def copied(trained: Trained, folder: Path) -> Path:
    for file in (trained.run / "adapter").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_wrong_adapters(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = save_generator(tiny_generator(seed=1), tmp_path / "other.safetensors")
    found = read_checkpoint(other, "generator")
    with pytest.raises(CheckpointError, match=r"does not belong to the generator .*other"):
        with_adapter(found, trained.run)
    monkeypatch.setenv("BIGR_VERIFY", "0")
    assert with_adapter(found, trained.run).settings.class_names == ("x", "y", "z")
    monkeypatch.delenv("BIGR_VERIFY")
    with pytest.raises(CheckpointError, match=r"there is no adapter_config\.json in it"):
        with_adapter(found, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 0}, "is damaged: its rank is 0"),
        ({"use_dora": True}, "use_dora is not supported"),
        ({"peft_type": "IA3"}, "does not describe a LoRA adapter"),
        ({"base_model_name_or_path": "gone.safetensors"}, "There is no checkpoint gone.safe"),
    ],
)
def test_damaged_settings(
    trained: Trained, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = copied(trained, tmp_path) / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=message):
        load_generator(tmp_path)


def test_a_flipped_bit_is_noticed(trained: Trained, tmp_path: Path) -> None:
    file = copied(trained, tmp_path) / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not have the SHA-256 checksum"):
        load_generator(tmp_path)
