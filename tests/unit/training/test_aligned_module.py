"""Training with alignment: the loss, its end, and what is saved."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from bigr import BiGRConfig, load_generator
from bigr.losses.alignment import AlignmentConfig, alignment_loss
from bigr.training.aligned_module import AlignedGeneratorModule
from bigr.training.callbacks.weight_export import ExportWeights
from bigr.training.data.batch import Batch
from bigr.training.data.codes_data import CodesDataModule
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.codes_stores import WIDTH, make_store_with_features
from tests.models import TINY
from tests.tiny_training import tiny_trainer

CONFIG = BiGRConfig(**{**TINY, "dropout": 0.0, "num_classes": 5})
OPTIMIZER = functools.partial(adamw, lr=1e-2)


def build(**changes: Any) -> AlignedGeneratorModule:
    torch.manual_seed(0)
    settings = {
        **{"feature_dim": WIDTH, "layer": 0, "weight": 0.5, "hidden_dim": 8, "until_step": None},
        **changes,
    }
    return AlignedGeneratorModule(CONFIG, OPTIMIZER, alignment=AlignmentConfig(**settings))


def build_plain() -> GeneratorModule:
    torch.manual_seed(0)
    return GeneratorModule(CONFIG, OPTIMIZER)


def loader(count: int = 6) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    batches: Any = [
        Batch(
            torch.randint(0, 3, (4,), generator=generator),
            codes=torch.randint(0, 2, (4, 16, 6), generator=generator).float(),
            features=torch.randn(4, 16, WIDTH, generator=generator).half(),
        )
        for _ in range(count)
    ]
    return DataLoader(batches, batch_size=None)


class Losses(Callback):
    """Keeps the losses of all steps."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(outputs["loss"].item())


def weights_after(module: GeneratorModule, steps: int, **settings: Any) -> dict[str, Tensor]:
    tiny_trainer(steps, **settings).fit(module, loader())
    return {name: value.clone() for name, value in module.model.state_dict().items()}


def test_the_loss_is_the_sum() -> None:
    """Of the first step: that of the same run without alignment, plus the weighted alignment."""
    plain, aligned = Losses(), Losses()
    tiny_trainer(1, plain).fit(build_plain(), loader())
    module = build(weight=0.7)
    fresh = build()
    trainer = tiny_trainer(1, aligned)
    trainer.fit(module, loader())
    batch = next(iter(loader()))
    assert module.draws is not None
    classes = torch.where(module.draws.is_unconditional, CONFIG.null_class, batch.labels)
    found: dict[int, Tensor] = {}
    fresh.model.transformer.hidden_states(
        batch.codes, classes, module.draws.is_masked, 2, on_layer=found.__setitem__
    )
    expected = alignment_loss(fresh.head(found[0][:, 1:]), batch.features).item()
    assert aligned.values[0] == pytest.approx(plain.values[0] + 0.7 * expected, rel=1e-5)
    assert trainer.logged_metrics["train/alignment"].item() == pytest.approx(expected, rel=1e-5)


def test_it_changes_the_layers_below_and_the_head() -> None:
    aligned, plain = build(weight=5.0), build_plain()
    ours, theirs = weights_after(aligned, 2), weights_after(plain, 2)
    name = "transformer.layers.0.attention.qkv.weight"
    name = name if name in ours else next(n for n in ours if n.startswith("transformer.layers.0."))
    assert not torch.equal(ours[name], theirs[name])
    fresh = build()
    assert not torch.equal(aligned.head[0].weight, fresh.head[0].weight)


def test_with_weight_zero_nothing_changes() -> None:
    module = build(weight=0.0)
    ours = weights_after(module, 3, gradient_clip_val=None)
    theirs = weights_after(build_plain(), 3, gradient_clip_val=None)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_it_is_switched_off_at_its_step() -> None:
    """From then on, the losses are those of ordinary training, and no features are needed."""
    module, losses = build(until_step=2), Losses()
    tiny_trainer(4, losses).fit(module, loader())
    assert [module.alignment.until_step, module.returned_layer] == [2, None]
    assert module.outcome is not None
    assert module.outcome.hidden is None
    assert losses.values[3] == module.outcome.loss.item()


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """Over the step at which the alignment ends: generator, head and optimiser."""
    store = tmp_path / "codes"
    make_store_with_features(store)

    def run(steps: int, resume: Path | None = None) -> tuple[Any, dict[str, Any]]:
        module = build(until_step=4)
        data = CodesDataModule(root=str(store), num_classes=5, features=True, batch_size=4, seed=3)
        trainer = tiny_trainer(steps)
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        return trainer, {name: value.clone() for name, value in module.state_dict().items()}

    first, _ = run(3)
    first.save_checkpoint(tmp_path / "a.ckpt")
    _, whole = run(6)
    trainer, resumed = run(6, tmp_path / "a.ckpt")
    assert trainer.global_step == 6
    assert sum(name.startswith("head.") for name in resumed) == 6
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_the_head_is_not_exported(tmp_path: Path) -> None:
    module = build()
    trainer = tiny_trainer(1, ExportWeights(str(tmp_path)))
    trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    names = build_plain().model.state_dict().keys()
    for file in ("generator.safetensors", "a.ckpt"):
        assert load_generator(tmp_path / file).state_dict().keys() == names
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert sum(name.startswith("head.") for name in kept) == 6


def test_mistakes() -> None:
    for missing in (None, 0):
        with pytest.raises(ValueError, match=r"needs codes with features: create them with python"):
            build(feature_dim=missing)
    with pytest.raises(ValueError, match=r"layer=2 must be below the number of layers, 2"):
        build(layer=2)
    with pytest.raises(ValueError, match=r"features of the shape \(4, 16, 6\).*got \(4, 16, 5\)"):
        tiny_trainer(1).fit(build(feature_dim=6), loader())
