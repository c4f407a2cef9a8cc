"""The generator's training step: codes of a batch, and the same draws on any number of devices."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from bigr import BiGRConfig
from bigr.checkpoints.native import save_autoencoder
from bigr.models.codes import grid_to_tokens
from bigr.training.data.batch import Batch
from bigr.training.generator_module import GeneratorModule
from bigr.training.optimizers import adamw
from tests.models import TINY, tiny_autoencoder
from tests.tiny_training import PairsDataModule, tiny_trainer

LABELS = torch.zeros(4, dtype=torch.int64)


def build(**settings: Any) -> GeneratorModule:
    return GeneratorModule(BiGRConfig(**TINY), functools.partial(adamw, lr=1e-3), **settings)


def test_deterministic_codes_are_the_likelier_bits(tmp_path: Path) -> None:
    autoencoder = tiny_autoencoder()
    path = save_autoencoder(autoencoder, tmp_path / "a.safetensors")
    module = build(autoencoder=str(path), deterministic_codes=True)
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        expected = grid_to_tokens((autoencoder.encode(images) > 0.5).float())
    assert torch.equal(module.codes_of([images, LABELS]), expected)
    assert not any("quantizer" in name for name in module.state_dict())


def test_codes_pass_through_and_images_need_an_autoencoder() -> None:
    codes = torch.randint(0, 2, (4, 16, 6)).float()
    assert torch.equal(build().codes_of(Batch(LABELS, codes=codes)), codes)
    with pytest.raises(ValueError, match=r"set task\.autoencoder"):
        build().codes_of(Batch(LABELS, images=torch.rand(4, 3, 8, 8)))


def test_accumulated_batches_give_the_step_of_the_whole_batch() -> None:
    """Two batches of 4 change the weights as the 8 images at once would."""
    inputs, labels = PairsDataModule("codes").dataset[:8]
    weights = []
    for accumulated in (1, 2):
        torch.manual_seed(0)
        config = BiGRConfig(**{**TINY, "dropout": 0.0})
        module = GeneratorModule(config, lambda model: torch.optim.SGD(model.parameters(), lr=1.0))
        parts = zip(labels.chunk(accumulated), inputs.float().chunk(accumulated), strict=True)
        batches: Any = [Batch(label, codes=codes) for label, codes in parts]
        loader = torch.utils.data.DataLoader(batches, batch_size=None)
        tiny_trainer(1, accumulate_grad_batches=accumulated).fit(module, loader)
        weights.append(module.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-5)


def test_parts_are_all_parameters_once() -> None:
    module = build()
    ours = [id(parameter) for part in module.parts().values() for parameter in part]
    assert sorted(ours) == sorted(id(parameter) for parameter in module.model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compile": "always"}, r"GeneratorModule\.compile must be .*auto"),
        ({"max_skipped_steps": -1}, r"max_skipped_steps must be an integer of at least 0, got -1"),
        ({"seed": 1.5}, r"seed must be an integer of at least 0, got 1\.5"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)
